{{- define "upm.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "upm.modules" -}}
{{- keys .Values.modules | sortAlpha | join " " -}}
{{- end -}}

{{- define "upm.selector" -}}
app.kubernetes.io/name: upm-platform
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "upm.labels" -}}
{{ include "upm.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: upm
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "upm.identityPrefix" -}}
{{- .Values.identities.secretPrefix | default (printf "%s-identity" (include "upm.name" .)) -}}
{{- end -}}

{{- /* The settings of one module, as YAML: what it says itself over what holds for all. Takes (dict "root" $ "module" NAME). */ -}}
{{- define "upm.module" -}}
{{- mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy (index .root.Values.modules .module)) | toYaml -}}
{{- end -}}

{{- define "upm.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "upm.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "upm.placement" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
