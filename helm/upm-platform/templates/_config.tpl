{{- /* upm.toml of one module's process. Takes (dict "root" $ "module" NAME). It holds no secret: URLs are in files. */ -}}
{{- define "upm.config" -}}
{{- $root := .root -}}
{{- $served := .module -}}
{{- $values := $root.Values -}}
identities = "/var/run/upm/identities"
{{ range $module := without (splitList " " (include "upm.modules" $root)) "gateway" }}
[modules.{{ $module }}]
{{- if eq $module $served }}
listen = "0.0.0.0:7000"
{{- if eq $values.store.backend "sqlite" }}
store = "sqlite:/var/lib/upm/{{ $module }}.db"
{{- else }}
store-file = "/var/run/upm/store/url"
{{- end }}
{{- if $values.cache.existingSecret }}
cache-file = "/var/run/upm/cache/url"
{{- end }}
{{- else }}
endpoints = ["{{ include "upm.name" $root }}-{{ $module }}.{{ $root.Release.Namespace }}.svc:7000"]
{{- end }}
{{ end }}
{{- if eq $served "gateway" }}
[gateway]
listen = "0.0.0.0:8080"
{{- if $values.gateway.tls.existingSecret }}
tls-certificate = "/var/run/upm/tls/tls.crt"
tls-key = "/var/run/upm/tls/tls.key"
{{- end }}
{{- with $values.gateway.ratePerAddress }}
rate-per-address = { per-second = {{ .perSecond | toJson }}, burst = {{ int64 .burst }} }
{{- end }}
{{- with $values.gateway.ratePerPrincipal }}
rate-per-principal = { per-second = {{ .perSecond | toJson }}, burst = {{ int64 .burst }} }
{{- end }}
{{- with $values.gateway.allowedOrigins }}
allowed-origins = {{ toJson . }}
{{- end }}
{{- with $values.gateway.trustedProxies }}
trusted-proxies = {{ toJson . }}
{{- end }}
max-body-bytes = {{ int64 $values.gateway.maxBodyBytes }}
{{- if $values.gateway.accessLog }}
access-log = "-"
{{- end }}
{{ end }}
{{- if eq $served "hub" }}
[hub]
agent-listen = "0.0.0.0:7443"
agent-endpoints = {{ $values.hub.agentEndpoints | toJson }}
audiences = {{ $values.hub.audiences | default (list "upm-hub") | toJson }}
authority = "/var/run/upm/authority"
{{ end }}
{{- if eq $served "auth" }}
[auth]
setup-token = "/var/run/upm/setup/token"
{{- if $values.auth.keySecret }}
key-file = "/var/run/upm/key/key"
{{- end }}
{{ end }}
{{- if and (eq $served "operatorlog") $values.operatorlog.keySecret }}
[operatorlog]
key-file = "/var/run/upm/key/key"
{{- with $values.operatorlog.adoptHead }}
adopt-head = {{ . | toJson }}
{{- end }}
{{ end }}
[telemetry]
metrics-listen = "0.0.0.0:9090"
{{- with $values.telemetry.otlpEndpoint }}
otlp-endpoint = "{{ . }}"
{{- end }}
{{ end -}}
