{{- define "upm-agent.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "upm-agent.selector" -}}
app.kubernetes.io/name: upm-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "upm-agent.labels" -}}
{{ include "upm-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: upm
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "upm-agent.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "upm-agent.name" .) -}}
{{- end -}}

{{- /* Cluster-scoped names carry the namespace, so that two releases never share a role. */ -}}
{{- define "upm-agent.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "upm-agent.name" .) -}}
{{- end -}}

{{- /* PROJECT=NAMESPACE/NAME of every project whose intents are done as a ServiceAccount. */ -}}
{{- define "upm-agent.impersonate" -}}
{{- $root := . -}}
{{- $all := list -}}
{{- range $project, $as := .Values.impersonation.projects -}}
{{- $all = append $all (printf "%s=%s/%s" $project ($as.namespace | default $root.Release.Namespace) $as.serviceAccount) -}}
{{- end -}}
{{- join "," $all -}}
{{- end -}}

{{- /* Namespaces of a value of `tunnels`, as the agent takes them; nothing when it is off. */ -}}
{{- define "upm-agent.reach" -}}
{{- if .enabled -}}
{{- .namespaces | default (list "*") | join "," -}}
{{- end -}}
{{- end -}}

{{- /* The same as a CEL expression. */ -}}
{{- define "upm-agent.reaches" -}}
{{- if not .enabled -}}false
{{- else if .namespaces -}}request.namespace in [{{ range $i, $name := .namespaces }}{{ if $i }}, {{ end }}'{{ $name }}'{{ end }}]
{{- else -}}true
{{- end -}}
{{- end -}}
