{{- define "securenotes-operator.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end }}

{{- define "securenotes-operator.serviceAccount" -}}
{{- default (include "securenotes-operator.name" .) .Values.serviceAccount.name -}}
{{- end }}

{{- define "securenotes-operator.selector" -}}
app.kubernetes.io/name: securenotes-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "securenotes-operator.labels" -}}
{{ include "securenotes-operator.selector" . }}
app.kubernetes.io/version: {{ include "securenotes-operator.labelValue" .Chart.AppVersion }}
app.kubernetes.io/part-of: securenotes
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ include "securenotes-operator.labelValue" (printf "%s-%s" .Chart.Name .Chart.Version) }}
{{- end }}

{{- /* labelValue and tag replace + in a version by _, as helm does in registries. */ -}}
{{- define "securenotes-operator.labelValue" -}}
{{ . | replace "+" "_" | trunc 63 | trimAll "-._" | quote }}
{{- end }}

{{- define "securenotes-operator.tag" -}}
{{ . | replace "+" "_" }}
{{- end }}

{{- /* image returns an image reference. It takes a dict of the image values and the default tag. */ -}}
{{- define "securenotes-operator.image" -}}
{{- with .image.registry }}{{ . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ default (include "securenotes-operator.tag" .tag) .image.tag }}{{ end }}
{{- end }}

{{- /* audiences returns the audiences of the operand's tokens for Vault. */ -}}
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
operatorNamespace: {{ .Release.Namespace | quote }}
operatorServiceAccount: {{ include "securenotes-operator.serviceAccount" . | quote }}
vaultResyncInterval: {{ .Values.vaultResyncInterval }}
logLevel: {{ .Values.logLevel }}
{{- with .Values.clusterID }}
clusterID: {{ . | quote }}
{{- end }}
{{- with .Values.watchNamespaces }}
watchNamespaces: {{ toJson . }}
{{- end }}
vaultConnections: {{ toJson .Values.vaultConnections }}
{{- end }}
