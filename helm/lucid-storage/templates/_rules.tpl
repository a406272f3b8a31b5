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
# Backups that schedules make, and remove when retention has passed.
- apiGroups: [storage.lucid-blockchain.org]
  resources: [backups]
  verbs: [create, delete]
{{ include "lucid-storage.workerRules" . }}
# Claims of Volumes, and what is said of those that wait.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
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

{{- /* What the operator needs where its workers run. */ -}}
{{- define "lucid-storage.workerRules" -}}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, create, patch, delete]
# The workers that write slices of the oplog all the time.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, create, patch, delete]
# How far a worker is, and what it said at its end.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# Whether the volume that backups go to is there.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
# Backups of volumes by the storage's own snapshots.
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshots]
  verbs: [get, list, create, patch, delete]
{{- end -}}
