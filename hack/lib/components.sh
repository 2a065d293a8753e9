# shellcheck shell=bash
# The five processes of a local cluster: how each is started and when it counts as ready. Sourced by hack/cluster.
#
# Guarantees: every listener is on 127.0.0.1; readiness is asked of the component itself, with a deadline.
# Assumes: read_config has set ports, tool paths and $api_url; make_pki has made the certificates.

components=(etcd kube-apiserver kube-controller-manager kube-scheduler kwok)

# Until when a component must be ready. Alone on an idle machine each takes at most three seconds; a machine that
# compiles on all its cores at the same time has been seen to take ten times as long.
ready_seconds=90

# Services get addresses that never leave this machine: there is no kube-proxy, so a request to one is refused at once
# instead of waiting for a network that knows nothing of it. The range is wide enough for every Service of a benchmark.
service_range=127.96.0.0/16
service_ip=127.96.0.1

# The API clients of the controllers are not the thing under test: they shall not wait in their own rate limit.
client_rate=(--kube-api-qps=300 --kube-api-burst=600)

# Nodes here are never lost, but a machine busy compiling may let KWOK be late; nobody should evict pods for that.
node_grace_period=10m

# KWOK renews the leases by which the controllers know that nodes live; as long as a kubelet's. It writes every quarter of it.
node_lease_seconds=40

# Nothing is worth the disk's time that is deleted with the cluster, hence no fsync. Whoever can reach loopback
# can reach this etcd: it holds nothing but test data. The peer port is any: nobody joins.
start_etcd() {
  start etcd "$tool_etcd" --name weir --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "$etcd_url" --advertise-client-urls "$etcd_url" --listen-peer-urls http://127.0.0.1:0
  await etcd curl_quiet "$etcd_url/health"
}

# Admission plugins are the defaults, so webhooks and policies work; Weir's are called at https://127.0.0.1:PORT.
# No endpoint reconciler: a Service may not have endpoints on loopback, and this server has no other address.
start_apiserver() {
  local pki="$state/pki" audit=()
  if [[ "$audit_log" == yes ]]; then
    audit=(--audit-log-path "$state/logs/audit.log" --audit-policy-file "$weir_hack/lib/audit.yaml")
  fi
  start kube-apiserver "$tool_kube_apiserver" --etcd-servers "$etcd_url" \
    --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$api_port" --endpoint-reconciler-type none \
    --tls-cert-file "$pki/serving.crt" --tls-private-key-file "$pki/serving.key" --client-ca-file "$pki/ca.crt" \
    --cert-dir "$pki" --authorization-mode RBAC --allow-privileged --service-cluster-ip-range "$service_range" \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$pki/service-account.key" \
    --service-account-signing-key-file "$pki/service-account.key" --profiling=false "${audit[@]}"
  await kube-apiserver api_ready
}

start_controller_manager() {
  local pki="$state/pki" config="$state/kube-controller-manager.kubeconfig"
  start kube-controller-manager "$tool_kube_controller_manager" --kubeconfig "$config" \
    --authentication-kubeconfig "$config" --authorization-kubeconfig "$config" \
    --bind-address 127.0.0.1 --secure-port "$controller_manager_port" \
    --tls-cert-file "$pki/serving.crt" --tls-private-key-file "$pki/serving.key" \
    --leader-elect=false --use-service-account-credentials --root-ca-file "$pki/ca.crt" \
    --service-account-private-key-file "$pki/service-account.key" --service-cluster-ip-range "$service_range" \
    --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
    --node-monitor-grace-period "$node_grace_period" --horizontal-pod-autoscaler-sync-period 5s \
    --profiling=false "${client_rate[@]}"
}

start_scheduler() {
  local config="$state/kube-scheduler.kubeconfig"
  start kube-scheduler "$tool_kube_scheduler" --kubeconfig "$config" \
    --authentication-kubeconfig "$config" --authorization-kubeconfig "$config" \
    --bind-address 127.0.0.1 --secure-port "$scheduler_port" \
    --tls-cert-file "$state/pki/serving.crt" --tls-private-key-file "$state/pki/serving.key" \
    --leader-elect=false --profiling=false "${client_rate[@]}"
}

start_kwok() {
  start kwok "$tool_kwok" --kubeconfig "$state/kwok.kubeconfig" --config "$weir_hack/lib/kwok.yaml" --manage-all-nodes \
    --server-address "127.0.0.1:$kwok_port" --node-ip 127.0.0.1 --node-port "$kwok_port" \
    --cidr 10.244.0.1/16 --node-lease-duration-seconds "$node_lease_seconds"
}

# await_controllers: the three that work on the API are up, and their first work is done: pods can be scheduled in the
# default namespace.
await_controllers() {
  await kube-controller-manager curl_quiet --cacert "$state/pki/ca.crt" "https://127.0.0.1:$controller_manager_port/healthz"
  await kube-scheduler curl_quiet --cacert "$state/pki/ca.crt" "https://127.0.0.1:$scheduler_port/readyz"
  await kwok curl_quiet "http://127.0.0.1:$kwok_port/readyz"
  await kube-controller-manager curl_api /api/v1/namespaces/default/serviceaccounts/default
  await kwok nodes_usable
}

api_ready() { curl_api /readyz; }

nodes_usable() {
  local answer
  answer="$("$tool_kubectl" --kubeconfig "$state/admin.kubeconfig" get nodes \
    -o 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}:{.spec.taints}{"\n"}{end}')" || return 1
  [[ "$answer" == $'True:\nTrue:' ]]
}

# await NAME COMMAND…: waits until COMMAND is true; a component that ended meanwhile is not waited for.
await() {
  local name="$1"
  shift
  wait_for "$ready_seconds" true_or_dead "$name" "$@" && alive "$name" || failed "$name" "$*"
}

true_or_dead() {
  local name="$1"
  shift
  "$@" || ! alive "$name"
}

# failed NAME [CHECK]: shows why, stops what was started, and ends the script. The logs stay for a look.
failed() {
  if alive "$1"; then
    say "$1 was not ready after ${ready_seconds}s${2:+ (asked: $2)}; the end of its log:"
  else
    say "$1 ended by itself; the end of its log:"
  fi
  show_log "$state/logs/$1.log"
  stop "${components[@]}"
  release_ports "${ports[@]}"
  die "the cluster did not come up; all logs are in $state/logs"
}

# No proxy: these are addresses of this machine. A second is ages for one of them.
curl_quiet() { curl --noproxy '*' --max-time 1 -fsS -o /dev/null "$@" 2>/dev/null; }

curl_api() {
  local pki="$state/pki"
  curl_quiet --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" "$api_url$1"
}
