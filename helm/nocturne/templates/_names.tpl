{{/* What every object and pod of the release is labelled with. */}}
{{- define "nocturne.labels" -}}
app.kubernetes.io/name: nocturne
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "nocturne.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Whether Spark's executors are pods. */}}
{{- define "nocturne.executors" -}}
{{- if hasPrefix "k8s://" (default "" (.Values.configuration.spark | default dict).master) }}true{{ end }}
{{- end }}

{{/* Whether a place is on an object store. */}}
{{- define "nocturne.isFar" -}}
{{- if and (contains "://" .) (not (hasPrefix "file://" .)) }}true{{ end }}
{{- end }}

{{/* The claim that holds the data root; none where that is on an object store. */}}
{{- define "nocturne.claim" -}}
{{- if not (include "nocturne.isFar" .Values.configuration.data_root) }}{{ .Values.data.claim }}{{ end }}
{{- end }}

{{/* The ports of the object stores that the configuration names, by commas: of each its endpoint's, else 443. */}}
{{- define "nocturne.storePorts" -}}
{{- $all := .Values.configuration }}
{{- $places := list (dict "path" $all.data_root "storage" $all.storage) }}
{{- range $name, $found := $all.source }}
{{- range $one := kindIs "slice" $found | ternary $found (list $found) }}
{{- $told := kindIs "map" $one | ternary $one (dict "path" $one) }}
{{- $places = append $places (dict "path" $told.path "storage" ($told.storage | default $all.storage)) }}
{{- end }}
{{- end }}
{{- $lookalike := $all.lookalike | default dict }}
{{- range prepend (values ($lookalike.campaigns | default dict)) $lookalike }}
{{- $places = append $places (dict "path" (. | default dict).suppress "storage" $all.storage) }}
{{- end }}
{{- $ports := list }}
{{- range $place := $places }}
{{- if include "nocturne.isFar" ($place.path | toString) }}
{{- $endpoint := ($place.storage | default dict).endpoint | default "https://" }}
{{- $own := regexFind ":[0-9]+$" (urlParse $endpoint).host | trimPrefix ":" }}
{{- $ports = append $ports ($own | default (hasPrefix "http://" $endpoint | ternary "80" "443")) }}
{{- end }}
{{- end }}
{{- $ports | uniq | sortAlpha | join "," }}
{{- end }}

{{/* The Secrets whose keys become environment variables, as for the jobs. */}}
{{- define "nocturne.secrets" -}}
{{- $secrets := (.Values.configuration.pods | default dict).secrets | default list }}
{{- if $secrets -}}
envFrom:
  {{- range $secrets }}
  - secretRef: {name: {{ . }}}
  {{- end }}
{{- else -}}
envFrom: []
{{- end }}
{{- end }}

{{/* The section `pods` of the configuration: what this chart makes, and over it what was said. */}}
{{- define "nocturne.pods" -}}
{{- $made := dict "image" (include "nocturne.image" .) "config_map" "nocturne-config"
      "namespace" .Release.Namespace "service_account" .Values.serviceAccount.name }}
{{- if include "nocturne.claim" . }}
{{- $made = merge $made (dict "claim" .Values.data.claim "mount" .Values.data.mount) }}
{{- end }}
{{- if .Values.pullSecrets }}{{ $_ := set $made "pull_secrets" .Values.pullSecrets }}{{ end }}
{{- toYaml (mergeOverwrite $made (deepCopy (.Values.configuration.pods | default dict))) }}
{{- end }}

{{/* The pipeline's YAML. */}}
{{- define "nocturne.configuration" -}}
{{- $all := deepCopy .Values.configuration }}
{{- $_ := set $all "pods" (include "nocturne.pods" . | fromYaml) }}
{{- if include "nocturne.executors" . }}
{{- $template := dict "spark.kubernetes.executor.podTemplateFile" "/etc/nocturne/executor.yaml" }}
{{- $_ := set $all.spark "conf" (mergeOverwrite $template ($all.spark.conf | default dict)) }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{/* How every pod of ours is confined: the pod's part, and the container's. */}}
{{- define "nocturne.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "nocturne.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "nocturne.pullSecrets" -}}
{{- if .Values.pullSecrets -}}
imagePullSecrets:
  {{- range .Values.pullSecrets }}
  - name: {{ . }}
  {{- end }}
{{- else -}}
imagePullSecrets: []
{{- end }}
{{- end }}
