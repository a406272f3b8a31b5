{{- /* Rules that a JSON schema cannot say. */ -}}
{{- define "lucid-storage.checks" -}}
{{- $variables := include "lucid-storage.storeVariables" . | fromYaml -}}
{{- if and .Values.stores.existingSecret $variables -}}
{{- fail (printf "stores.existingSecret is given together with values of stores (%s); give one of the two." (keys $variables | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if and .Values.podDisruptionBudget.enabled (lt (int .Values.replicas) 2) -}}
{{- fail "podDisruptionBudget.enabled needs replicas: 2; with one replica it would keep nodes from being drained." -}}
{{- end -}}
{{- if eq (int .Values.rest.port) (int .Values.health.port) -}}
{{- fail "rest.port and health.port are the same; give them different ports." -}}
{{- end -}}
{{- end -}}
