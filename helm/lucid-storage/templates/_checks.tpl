{{- /* Rules that a JSON schema cannot say. */ -}}
{{- define "lucid-storage.checks" -}}
{{- $variables := include "lucid-storage.storeVariables" . | fromYaml -}}
{{- if and .Values.stores.existingSecret $variables -}}
{{- fail (printf "stores.existingSecret is given together with values of stores (%s); give one of the two." (keys $variables | sortAlpha | join ", ")) -}}
{{- end -}}
{{- /* Not in the schema, whose refusals show the value: these hold passwords. */ -}}
{{- if not (regexMatch "^(mongodb([+]srv)?://.+)?$" .Values.stores.mongodb.uri) -}}
{{- fail "stores.mongodb.uri is no MongoDB connection string; write it as mongodb://... or mongodb+srv://..." -}}
{{- end -}}
{{- if not (regexMatch "^(rediss?://.+)?$" .Values.stores.redis.url) -}}
{{- fail "stores.redis.url is no Redis URL; write it as redis://... or rediss://..." -}}
{{- end -}}
{{- if not (regexMatch "^(https?://.+)?$" .Values.stores.elasticsearch.url) -}}
{{- fail "stores.elasticsearch.url is no Elasticsearch URL; write it as http://... or https://..." -}}
{{- end -}}
{{- $b := .Values.backups -}}
{{- if not (regexMatch "^(mongodb([+]srv)?://.+)?$" $b.verifyUri) -}}
{{- fail "backups.verifyUri is no MongoDB connection string; write it as mongodb://... or mongodb+srv://..." -}}
{{- end -}}
{{- if and (eq $b.storage "s3") (not $b.s3.bucket) -}}
{{- fail "backups.storage is s3; give backups.s3.bucket." -}}
{{- end -}}
{{- if and (eq $b.storage "volume") (not $b.volume.claim) -}}
{{- fail "backups.storage is volume; give backups.volume.claim, a PersistentVolumeClaim in the release's namespace." -}}
{{- end -}}
{{- if and .Values.podDisruptionBudget.enabled (lt (int .Values.replicas) 2) -}}
{{- fail "podDisruptionBudget.enabled needs replicas: 2; with one replica it would keep nodes from being drained." -}}
{{- end -}}
{{- if eq (int .Values.rest.port) (int .Values.health.port) -}}
{{- fail "rest.port and health.port are the same; give them different ports." -}}
{{- end -}}
{{- end -}}
