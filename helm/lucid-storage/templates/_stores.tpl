{{- /* Variables of the stores that values give, as a YAML map; an empty map when there are none. */ -}}
{{- define "lucid-storage.storeVariables" -}}
{{- $m := .Values.stores.mongodb -}}
{{- $r := .Values.stores.redis -}}
{{- $e := .Values.stores.elasticsearch -}}
{{- $all := dict
  "MONGODB_URI" $m.uri "MONGODB_HOST" $m.host "MONGODB_PORT" $m.port "MONGODB_USERNAME" $m.username
  "MONGODB_PASSWORD" $m.password "MONGODB_REPLICA_SET" $m.replicaSet "MONGODB_DATABASE" $m.database
  "REDIS_URL" $r.url "REDIS_HOST" $r.host "REDIS_PORT" $r.port "REDIS_DATABASE" $r.database
  "REDIS_PASSWORD" $r.password
  "ELASTICSEARCH_URL" $e.url "ELASTICSEARCH_HOST" $e.host "ELASTICSEARCH_PORT" $e.port
  "ELASTICSEARCH_USERNAME" $e.username "ELASTICSEARCH_PASSWORD" $e.password
  "ELASTICSEARCH_INDEX_PREFIX" $e.indexPrefix -}}
{{- $b := .Values.backups -}}
{{- $all = merge $all (dict
  "AWS_ACCESS_KEY_ID" $b.s3.accessKeyId "AWS_SECRET_ACCESS_KEY" $b.s3.secretAccessKey
  "BACKUP_VERIFY_URI" $b.verifyUri) -}}
{{- $given := dict -}}
{{- range $name, $value := $all -}}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) -}}
{{- $_ := set $given $name (toString $value) -}}
{{- end -}}
{{- end -}}
{{- toYaml $given -}}
{{- end -}}

{{- /*
A mark that changes with the stores' values and rolls the pods. Pods are read by more people than Secrets are, so
it goes through scrypt (derivePassword): a plain hash would let them try passwords quickly.
*/ -}}
{{- define "lucid-storage.storesMark" -}}
{{- $text := include "lucid-storage.storeVariables" . -}}
{{- derivePassword 1 "maximum" $text .Release.Name .Release.Namespace | sha256sum | trunc 16 -}}
{{- end -}}
