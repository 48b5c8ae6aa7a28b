{{- /* The pod that makes or renews certificates. Takes (dict "root" $ "restart" BOOL). */ -}}
{{- define "upm.issuePod" -}}
{{- $root := .root -}}
{{- $name := include "upm.name" $root -}}
metadata:
  labels:
    {{- include "upm.labels" $root | nindent 4 }}
    app.kubernetes.io/component: identities
spec:
  serviceAccountName: {{ $name }}-identities
  automountServiceAccountToken: true
  enableServiceLinks: false
  restartPolicy: OnFailure
  securityContext:
    {{- include "upm.podSecurity" $root | nindent 4 }}
  {{- with include "upm.placement" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  initContainers:
    # The CA stays the same as long as its Secret is there: agents pin it.
    - name: issue
      image: {{ $root.Values.image.reference | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command:
        - /bin/sh
        - -ec
        - |
          umask 077
          mkdir -p /issued/ca
          if [ -f /ca/ca.key ]; then cp /ca/ca.crt /ca/ca.key /issued/ca/; fi
          upm ca init --directory /issued/ca
          upm ca issue --directory /issued/ca --out /issued {{ include "upm.modules" $root }}
      resources:
        requests: { cpu: 10m, memory: 32Mi }
        limits: { memory: 128Mi }
      securityContext:
        {{- include "upm.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - { name: ca, mountPath: /ca, readOnly: true }
        - { name: work, mountPath: /issued }
    {{- if .restart }}
    {{- include "upm.storeContainer" $root | nindent 4 }}
    {{- end }}
  containers:
    {{- if .restart }}
    - name: restart
      image: {{ $root.Values.identities.issue.kubectlImage | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        - rollout
        - restart
        - deployment
        - --selector=app.kubernetes.io/name=upm-platform,app.kubernetes.io/instance={{ $root.Release.Name }}
      env:
        - { name: HOME, value: /tmp }
      resources:
        requests: { cpu: 10m, memory: 32Mi }
        limits: { memory: 256Mi }
      securityContext:
        {{- include "upm.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - { name: tmp, mountPath: /tmp }
    {{- else }}
    {{- include "upm.storeContainer" $root | nindent 4 }}
    {{- end }}
  volumes:
    - name: ca
      secret:
        secretName: {{ include "upm.identityPrefix" $root }}-ca
        optional: true
        defaultMode: 0440
    - name: work
      emptyDir: { medium: Memory, sizeLimit: 4Mi }
    - name: tmp
      emptyDir: {}
    - name: kustomization
      configMap:
        name: {{ $name }}-identities
{{- end -}}

{{- define "upm.storeContainer" -}}
- name: store
  image: {{ .Values.identities.issue.kubectlImage | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [apply, --server-side, --force-conflicts, --field-manager=upm-identities, --kustomize=/issued]
  env:
    - { name: HOME, value: /tmp }
  resources:
    requests: { cpu: 10m, memory: 32Mi }
    limits: { memory: 256Mi }
  securityContext:
    {{- include "upm.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - { name: work, mountPath: /issued }
    - { name: tmp, mountPath: /tmp }
    - { name: kustomization, mountPath: /issued/kustomization.yaml, subPath: kustomization.yaml, readOnly: true }
{{- end -}}
