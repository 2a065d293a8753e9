# shellcheck shell=bash
# Certificates and kubeconfigs of one local cluster. Sourced by hack/cluster.
#
# Guarantees: every key is made anew for each cluster and lies in its state folder, readable by its owner only.
# Assumes: $state is that folder; openssl 1.1.1 or newer.

# A local cluster lives for hours; this is long enough for one forgotten over the holidays.
pki_days=30

# make_pki: the authority, the serving certificate and the key that signs service account tokens.
make_pki() {
  local pki="$state/pki"
  mkdir -p "$pki"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days "$pki_days" \
    -subj '/CN=weir local cluster' -keyout "$pki/ca.key" -out "$pki/ca.crt" \
    -addext 'keyUsage=critical,digitalSignature,keyCertSign' 2>>"$state/logs/pki.log"
  issue serving '/CN=kube-apiserver' "extendedKeyUsage=serverAuth
subjectAltName=IP:127.0.0.1,IP:$service_ip,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  openssl ecparam -name prime256v1 -genkey -noout -out "$pki/service-account.key" 2>>"$state/logs/pki.log"
}

# make_user NAME SUBJECT: a client certificate, and NAME.kubeconfig that carries it.
make_user() {
  issue "$1" "$2" 'extendedKeyUsage=clientAuth'
  local pki="$state/pki"
  cat >"$state/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: weir-local
contexts:
- name: weir-local
  context: {cluster: weir-local, user: $1}
clusters:
- name: weir-local
  cluster:
    server: $api_url
    certificate-authority-data: $(base64 -w 0 "$pki/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w 0 "$pki/$1.crt")
    client-key-data: $(base64 -w 0 "$pki/$1.key")
YAML
}

# issue NAME SUBJECT EXTENSIONS: a key and a certificate for it, signed by the authority.
issue() {
  local pki="$state/pki"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -subj "$2" \
    -keyout "$pki/$1.key" -out "$pki/$1.csr" 2>>"$state/logs/pki.log"
  printf '%s\n' 'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature' "$3" >"$pki/$1.ext"
  openssl x509 -req -sha256 -days "$pki_days" -in "$pki/$1.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" \
    -set_serial "0x$(openssl rand -hex 8)" -extfile "$pki/$1.ext" -out "$pki/$1.crt" 2>>"$state/logs/pki.log"
  rm -f "$pki/$1.csr" "$pki/$1.ext"
}
