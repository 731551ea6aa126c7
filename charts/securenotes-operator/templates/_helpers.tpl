{{- define "securenotes-operator.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end }}

{{- define "securenotes-operator.serviceAccount" -}}
{{- default (include "securenotes-operator.name" .) .Values.serviceAccount.name -}}
{{- end }}

{{- define "securenotes-operator.selector" -}}
app.kubernetes.io/name: securenotes-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "securenotes-operator.labels" -}}
{{ include "securenotes-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: securenotes
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* image takes a dict of image values and the default tag. */ -}}
{{- define "securenotes-operator.image" -}}
{{- with .image.registry }}{{ . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ default .tag .image.tag }}{{ end }}
{{- end }}

{{- /* audiences of the tokens that the operand's pods log in to Vault with. */ -}}
{{- define "securenotes-operator.audiences" -}}
{{- $audiences := list }}
{{- range .Values.vaultConnections }}
{{- $audiences = append $audiences (default "vault" .audience) }}
{{- end }}
{{- $audiences | uniq | toJson }}
{{- end }}

{{- define "securenotes-operator.config" -}}
apiVersion: config.securenotes.dev/v1alpha1
kind: OperatorConfig
operandImage: {{ include "securenotes-operator.image" (dict "image" .Values.operand.image "tag" .Chart.AppVersion) | quote }}
operandImagePullPolicy: {{ .Values.operand.image.pullPolicy }}
operatorNamespace: {{ .Release.Namespace }}
operatorServiceAccount: {{ include "securenotes-operator.serviceAccount" . }}
vaultResyncInterval: {{ .Values.vaultResyncInterval }}
{{- with .Values.clusterID }}
clusterID: {{ . | quote }}
{{- end }}
{{- with .Values.watchNamespaces }}
watchNamespaces: {{ toJson . }}
{{- end }}
vaultConnections: {{ toJson .Values.vaultConnections }}
{{- end }}
