{{/* The first part of the names of all objects. */}}
{{- define "tars-registry.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods; never to be changed, as a Deployment's selector can't be. */}}
{{- define "tars-registry.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The labels of every object. */}}
{{- define "tars-registry.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "tars-registry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name, namespace and labels of an object: a list of the root and of what follows the full name. */}}
{{- define "tars-registry.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "tars-registry.fullname" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "tars-registry.labels" $root | nindent 2 }}
{{- end -}}

{{- define "tars-registry.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tars-registry.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tars-registry.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "tars-registry.clusterIPServiceName" -}}
{{- default (printf "%s-vip" .Values.service.name) .Values.clusterIPService.name -}}
{{- end -}}

{{/* The namespaces that are followed, as a JSON list. */}}
{{- define "tars-registry.namespaces" -}}
{{- default (list .Release.Namespace) .Values.namespaces | uniq | toJson -}}
{{- end -}}

{{/* NAMESPACE/NAME of the ConfigMap with the routing policy; empty for none. */}}
{{- define "tars-registry.policyConfigMap" -}}
{{- if .Values.routing.existingConfigMap -}}
{{- $name := .Values.routing.existingConfigMap -}}
{{- if contains "/" $name }}{{ $name }}{{ else }}{{ .Release.Namespace }}/{{ $name }}{{ end -}}
{{- else if .Values.routing.policy -}}
{{- printf "%s/%s-routing" .Release.Namespace (include "tars-registry.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* "true" where zones and regions of nodes may be asked for. */}}
{{- define "tars-registry.topology" -}}
{{- $policy := .Values.routing.policy -}}
{{- if kindIs "string" $policy }}{{ $policy = fromYaml $policy }}{{ end -}}
{{- if or .Values.routing.topology (and (not .Values.routing.existingConfigMap) (dig "from_topology" false $policy)) -}}
true
{{- end -}}
{{- end -}}

{{/* The host under which callers go on asking; empty for what the registry takes by itself in a pod. */}}
{{- define "tars-registry.selfHost" -}}
{{- if .Values.selfHost -}}
{{- .Values.selfHost -}}
{{- else if ne (include "tars-registry.namespaces" .) (list .Release.Namespace | toJson) -}}
{{- printf "%s.%s" .Values.service.name .Release.Namespace -}}
{{- else if ne .Values.service.name "tars-tarsregistry" -}}
{{- .Values.service.name -}}
{{- end -}}
{{- end -}}

{{/* The configuration file: what follows from the values, and what stands in `config`. */}}
{{- define "tars-registry.config" -}}
{{- $config := dict
    "source" "kubernetes"
    "discover" .Values.discover
    "namespace" (include "tars-registry.namespaces" . | fromJsonArray | join ",")
    "endpoint_host" .Values.endpointHost
    "metrics_listen" ":17893"
-}}
{{- with include "tars-registry.selfHost" . }}{{ $_ := set $config "self_host" . }}{{ end -}}
{{- with include "tars-registry.policyConfigMap" . }}{{ $_ := set $config "routing_policy_configmap" . }}{{ end -}}
{{- if .Values.tarsnodes.enabled -}}
{{- $_ := set $config "caller_check" .Values.tarsnodes.callerCheck -}}
{{- else -}}
{{- /* It can't be told not to listen, but nobody reaches it there. */ -}}
{{- $_ := set $config "registry_listen" "127.0.0.1:17891" -}}
{{- end -}}
{{- /* The name of the pod comes by the environment; without the gate there is nothing to write to it. */ -}}
{{- if not .Values.readinessGate.enabled }}{{ $_ := set $config "pod_name" "off" }}{{ end -}}
{{- if .Values.snapshot.enabled }}{{ $_ := set $config "snapshot_path" "/var/lib/tars-registry/snapshot" }}{{ end -}}
{{- toYaml (merge $config .Values.config) -}}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL. Refuses values with which it could not drain. */}}
{{- define "tars-registry.gracePeriod" -}}
{{- $delay := dig "drain_delay" 5 .Values.config | float64 -}}
{{- $timeout := dig "drain_timeout" 20 .Values.config | float64 -}}
{{- if ge $delay $timeout -}}
{{- fail (printf "config.drain_delay (%v s) must be less than config.drain_timeout (%v s), which it is a part of" $delay $timeout) -}}
{{- end -}}
{{- $grace := .Values.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $grace -}}
{{- add (ceil $timeout) 10 -}}
{{- else if le (float64 $grace) $timeout -}}
{{- fail (printf "terminationGracePeriodSeconds (%v) must be more than config.drain_timeout (%v s): the registry would be killed while it drains" $grace $timeout) -}}
{{- else -}}
{{- int $grace -}}
{{- end -}}
{{- end -}}

{{/* The rules to follow servers, and those of tarsnodes: what docs/kubernetes.md and docs/tarsnodes.md list. */}}
{{- define "tars-registry.rules" -}}
{{- if ne .Values.discover "pods" }}
- apiGroups: [k8s.tars.io]
  resources: [tendpoints]
  verbs: [list, watch]
{{- end }}
- apiGroups: [k8s.tars.io]
  resources: [ttemplates]
  verbs: [list, watch]
- apiGroups: [k8s.tars.io]
  resources: [tframeworkconfigs]
  resourceNames: [tars-framework]
  verbs: [list, watch]
{{- if or (ne .Values.discover "tendpoints") (include "tars-registry.topology" .) }}
# Servers by their labels; or, for zones, where callers are.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end }}
{{- if .Values.tarsnodes.enabled }}
{{ include "tars-registry.stateRules" . }}
{{- if .Values.tarsnodes.events }}
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
{{- end }}
{{- end -}}

{{/* To write a condition to pods. */}}
{{- define "tars-registry.stateRules" -}}
# To see that a caller is the pod that it reports for, and what is written already.
- apiGroups: [""]
  resources: [pods]
  verbs: [get]
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
{{- end -}}

{{/* A Role or ClusterRole and its binding: dict of root, kind, name, namespace (empty for cluster-wide), rules. */}}
{{- define "tars-registry.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "tars-registry.labels" .root | nindent 4 }}
rules:
  {{- .rules | trim | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "tars-registry.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "tars-registry.serviceAccountName" .root }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{/* The ports of the Services: names and numbers as in every installation of TARS. */}}
{{- define "tars-registry.servicePorts" -}}
- name: queryobj
  port: 17890
  targetPort: queryobj
  protocol: TCP
{{- if .Values.tarsnodes.enabled }}
- name: registryobj
  port: 17891
  targetPort: registryobj
  protocol: TCP
{{- end }}
{{- end -}}

{{/* ipFamilyPolicy and ipFamilies of a Service: what is set of them. */}}
{{- define "tars-registry.ipFamilies" -}}
{{- with .ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .ipFamilies }}
ipFamilies:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
