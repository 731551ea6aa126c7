package main

import (
	"fmt"
	"os"
	"strings"
)

// installed maps values of config/ in the admission policies to those of a release.
var installed = []struct{ value, template string }{
	{"system:serviceaccount:securenotes-system:securenotes-operator", `system:serviceaccount:{{ .Release.Namespace }}:{{ include "securenotes-operator.serviceAccount" . }}`},
	{"request.namespace != 'securenotes-system'", `request.namespace != '{{ .Release.Namespace }}'`},
	{`"'securenotes.dev/securenotes:dev'"`, `{{ include "securenotes-operator.image" (dict "image" .Values.operand.image "tag" .Chart.AppVersion) | toJson | quote }}`},
	{`"['vault']"`, `{{ include "securenotes-operator.audiences" . | quote }}`},
	{"ame: securenotes-operator-", `ame: {{ include "securenotes-operator.name" . }}-`},
	{"\nmetadata:\n", "\nmetadata:\n  labels:\n    {{- include \"securenotes-operator.labels\" . | nindent 4 }}\n"},
}

// policy returns the admission policies that restrict the operator.
func policy() ([]byte, error) {
	var text strings.Builder
	for _, file := range []string{"config/policy/objects.yaml", "config/policy/pods.yaml", "config/policy/requests.yaml"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if strings.Contains(string(raw), "{{") {
			return nil, fmt.Errorf("%s has {{, which helm would take for its own", file)
		}
		text.WriteString("---\n" + string(raw))
	}
	all := text.String()
	for _, part := range installed {
		if !strings.Contains(all, part.value) {
			return nil, fmt.Errorf("config/policy does not have %q, which a release has another value of", part.value)
		}
		all = strings.ReplaceAll(all, part.value, part.template)
	}
	// Every supported version of Kubernetes has the API.
	return []byte(generated + "{{- if .Values.admissionPolicy.enabled }}\n" + all + "{{- end }}\n"), nil
}
