# The configuration files of a node. Sourced.

node_cni_config() { # N
  cat <<END
{"cniVersion": "1.0.0", "name": "upm", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$RUN/n$1/cni", "ranges": [[{"subnet": "$POD_NET.$1.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
END
}

# restrict_oom_score_adj: machines without CAP_SYS_RESOURCE may not lower it.
# netns_mounts_under_state_dir: what a dead node leaves behind is found in one place.
node_containerd_config() { # N
  cat <<END
version = 2
root = "$STATE/n$1/containerd"
state = "$RUN/n$1/containerd"
[grpc]
  address = "$RUN/n$1/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$STATE/n$1/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "upm.local/pause:1"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$STATE/registries"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/n$1/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "$RUN/n$1/runc"
END
}

# failCgroupV1, cgroupsPerQOS, enforceNodeAllocatable: hosts with cgroup v1; limits of containers hold all the same.
# featureGates: without cgroups of pods the kubelet ends with a nil pointer when it believes that a pod is to be resized.
# imageGCHighThresholdPercent: images were imported and cannot be fetched again.
node_kubelet_config() { # N
  cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$RUN/n$1/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /
cgroupsPerQOS: false
featureGates: {InPlacePodVerticalScaling: false}
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
authentication: {x509: {clientCAFile: $PKI/ca.crt}, anonymous: {enabled: false}, webhook: {enabled: true}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/n$1.crt
tlsPrivateKeyFile: $PKI/n$1.key
clusterDNS: [$SERVICE_DNS]
clusterDomain: cluster.local
resolvConf: /dev/null
podLogsDir: $STATE/n$1/log
volumePluginDir: $STATE/n$1/plugins
nodeStatusUpdateFrequency: 4s
evictionHard: {memory.available: 100Mi}
imageGCHighThresholdPercent: 100
END
}
