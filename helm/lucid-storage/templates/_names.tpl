{{- define "lucid-storage.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "lucid-storage.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "lucid-storage.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "lucid-storage.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* ClusterRoles have no namespace, so their names carry the release's: two releases may have one name. */ -}}
{{- define "lucid-storage.clusterName" -}}
{{- $name := include "lucid-storage.fullname" . -}}
{{- ternary $name (printf "%s-%s" .Release.Namespace $name) (eq $name .Release.Namespace) -}}
{{- end -}}

{{- define "lucid-storage.serviceAccountName" -}}
{{- default (include "lucid-storage.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "lucid-storage.storesSecretName" -}}
{{- default (printf "%s-stores" (include "lucid-storage.fullname" .)) .Values.stores.existingSecret -}}
{{- end -}}

{{/* A text as the value of a variable: a kubelet takes $(NAME) for another variable and makes one $ of two. */}}
{{- define "lucid-storage.literal" -}}
{{- replace "$" "$$" . | quote -}}
{{- end -}}

{{- define "lucid-storage.selectorLabels" -}}
app.kubernetes.io/name: {{ include "lucid-storage.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "lucid-storage.labels" -}}
{{ include "lucid-storage.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
