# Keys, certificates and kubeconfigs of the cluster. Sourced.

PKI=$STATE/pki

pki_up() {
  mkdir -p -m 0700 "$PKI"
  [ -f "$PKI/sa.pub" ] && return
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$PKI/ca.key" -out "$PKI/ca.crt" \
    -days 3650 -subj /CN=upm-testbed -addext basicConstraints=critical,CA:TRUE 2>/dev/null
  certificate apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$HOST_ADDRESS,IP:$SERVICE_API"
  certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate admin /O=system:masters/CN=admin
  certificate controller-manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate proxy /CN=system:kube-proxy
  certificate coredns /CN=upm:coredns
  certificate provisioner /CN=upm:provisioner
  local name
  for name in admin controller-manager scheduler proxy coredns provisioner; do
    kubeconfig "$STATE/$name.kubeconfig" "$name"
  done
  openssl ecparam -genkey -name prime256v1 -noout -out "$PKI/sa.key"
  openssl ec -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub" 2>/dev/null
}

# A key and a certificate for servers and clients.
certificate() { # NAME SUBJECT [ALTERNATIVE NAMES]
  local extensions=extendedKeyUsage=serverAuth,clientAuth
  [ -z "${3:-}" ] || extensions+=$'\n'subjectAltName=$3
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$PKI/$1.key" -out "$PKI/$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$PKI/$1.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days 3650 \
    -out "$PKI/$1.crt" -extfile <(echo "$extensions") 2>/dev/null
  rm "$PKI/$1.csr"
}

# A kubeconfig that holds everything it needs, so that it may be copied elsewhere.
kubeconfig() { # FILE CERTIFICATE
  (umask 077 && cat >"$1") <<END
apiVersion: v1
kind: Config
clusters:
- name: upm-testbed
  cluster: {server: "https://$HOST_ADDRESS:$API_PORT", certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")}
users:
- name: $2
  user: {client-certificate-data: $(base64 -w0 "$PKI/$2.crt"), client-key-data: $(base64 -w0 "$PKI/$2.key")}
contexts:
- name: $2@upm-testbed
  context: {cluster: upm-testbed, user: $2}
current-context: $2@upm-testbed
END
}
