{{- define "lucid-storage.plurals" -}}
[backups, backupschedules, collections, indexes, restores, shardedcollections, volumes]
{{- end -}}

{{- /* What the operator may do in a namespace that it watches. */ -}}
{{- define "lucid-storage.watchRules" -}}
{{- $plurals := include "lucid-storage.plurals" . | fromYamlArray -}}
- apiGroups: [storage.lucid-blockchain.org]
  resources:
    {{- range $plurals }}
    - {{ . }}
    {{- end }}
  verbs: [get, list, watch, patch]
- apiGroups: [storage.lucid-blockchain.org]
  resources:
    {{- range $plurals }}
    - {{ . }}/status
    {{- end }}
  verbs: [patch]
# Secrets that resources name; neither listed nor watched.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
# Whether a namespace is being deleted.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
