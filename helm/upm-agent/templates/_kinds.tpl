{{- /* Generated from proto/src/kinds.rs. Do not edit: UPDATE=1 cargo test -p upm-crds */ -}}
{{- define "upm-agent.kinds" -}}unitsets, redisreplications, projects, units{{- end -}}
{{- define "upm-agent.kinds.status" -}}unitsets/status, redisreplications/status, projects/status, units/status{{- end -}}
{{- define "upm-agent.kinds.finalizers" -}}unitsets/finalizers, redisreplications/finalizers, projects/finalizers, units/finalizers{{- end -}}
{{- define "upm-agent.kinds.project" -}}unitsets, redisreplications, units{{- end -}}
{{- define "upm-agent.kinds.projectIntents" -}}unitsets, redisreplications{{- end -}}
