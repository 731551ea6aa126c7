// Package cluster creates and removes the kind cluster. It sets up a pod network and cluster DNS if
// kind's cannot be pulled.
package cluster

import (
	"bytes"
	"fmt"
	"os"
	"text/template"

	"github.com/securenotes/securenotes/hack/kind/layout"
)

// Paths and ports that both sides of the cluster's boundary use.
const (
	// VolumesInNode is the path of the shared directory of volumes on every node.
	VolumesInNode = "/var/lib/securenotes-volumes"
	// HostPort is the port of the sample service on 127.0.0.1.
	HostPort = 9443
	// NodePort is the port of its Service on the control-plane node.
	NodePort = 30443
)

// Addresses are from 198.18.0.0/15 (RFC 2544, test networks), which no LAN uses.
var configTemplate = template.Must(template.New("kind").Parse(`kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: {{.Name}}
networking:
  apiServerAddress: 127.0.0.1
  podSubnet: 198.18.0.0/18
  serviceSubnet: 198.19.0.0/16
{{- if .Own}}
  kubeProxyMode: nftables
  disableDefaultCNI: true
{{- end}}
nodes:
- role: control-plane
{{- template "node" .}}
  extraPortMappings:
  - {containerPort: {{.NodePort}}, hostPort: {{.HostPort}}, listenAddress: 127.0.0.1, protocol: TCP}
- role: worker
{{- template "node" .}}
- role: worker
{{- template "node" .}}
{{- if .CgroupV1}}
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  cgroupDriver: cgroupfs
  cgroupRoot: /
  failCgroupV1: false
{{- end}}
{{define "node"}}
{{- if .Image}}
  image: {{.Image}}
{{- end}}
  extraMounts:
  - {hostPath: {{.Volumes}}, containerPath: {{.VolumesInNode}}}
{{- end}}
`))

type parameters struct {
	Name, Image, Volumes, VolumesInNode string
	Own, CgroupV1                       bool
	NodePort, HostPort                  int
}

// config renders kind's configuration. Empty image: kind's default.
func config(l layout.Layout, image string, own bool) (string, error) {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	var b bytes.Buffer
	if err := configTemplate.Execute(&b, parameters{
		Name: layout.ClusterName, Image: image, Volumes: l.Machine("volumes"), VolumesInNode: VolumesInNode,
		Own: own, CgroupV1: os.IsNotExist(err), NodePort: NodePort, HostPort: HostPort,
	}); err != nil {
		return "", fmt.Errorf("render kind's configuration: %w", err)
	}
	return b.String(), nil
}
