// Package toolchain builds the programs that the cluster and the tests need. They come from Go
// modules pinned in hack/tools, and are built once for each version and machine.
package toolchain

import "slices"

// Tool is one module below hack/tools and the programs built from it.
type Tool struct {
	Dir      string                        // below hack/tools
	Module   string                        // its version is the version of the tool; empty: the tool is ours
	Programs map[string]string             // file name to package path
	Stamp    func(version string) []string // linker flags that set a program's version
	Tags     []string                      // build tags
	Instead  map[string]string             // path of a file of the module, and the file in Dir that replaces it
}

// A Program is the file name of one of the catalog's binaries.
type Program string

// The programs. Their names are the names of the binaries.
const (
	APIServer         Program = "kube-apiserver"
	ControllerManager Program = "kube-controller-manager"
	Scheduler         Program = "kube-scheduler"
	Proxy             Program = "kube-proxy"
	Kubelet           Program = "kubelet"
	Kubeadm           Program = "kubeadm"
	Kubectl           Program = "kubectl"
	Etcd              Program = "etcd"
	Containerd        Program = "containerd"
	Ctr               Program = "ctr"
	Shim              Program = "containerd-shim-runc-v2"
	CoreDNS           Program = "coredns"
	Kind              Program = "kind"
	Vault             Program = "vault"
	CertManager       Program = "cert-manager"
	VolumeProvisioner Program = "volume-provisioner"
	Helm              Program = "helm"
	ControllerGen     Program = "controller-gen"
	GolangciLint      Program = "golangci-lint"
	ObjectStore       Program = "versitygw"
)

// Sets of programs for one purpose.
var (
	// ForCluster is needed for every cluster.
	ForCluster = []Program{Kind, Helm, VolumeProvisioner}
	// ForNodeImage is needed if no registry has a node image.
	ForNodeImage = []Program{APIServer, ControllerManager, Scheduler, Proxy, Kubelet, Kubeadm, Kubectl, Etcd, Containerd, Ctr, Shim, CoreDNS}
	// ForOffline is what hack/offline packs into images.
	ForOffline = append(slices.Clone(ForNodeImage), CertManager, Vault)
	// ForIntegration is what integration tests start.
	ForIntegration = []Program{APIServer, Etcd, Kubectl, Scheduler, Vault, Helm, ObjectStore}
	// ForDevelopment is what generates and checks code.
	ForDevelopment = []Program{ControllerGen, Helm, GolangciLint}
)

const kube = "k8s.io/kubernetes/cmd/"

var catalog = []Tool{
	{Dir: "kubernetes", Module: "k8s.io/kubernetes", Stamp: kubeVersion, Programs: map[string]string{
		"kube-apiserver": kube + "kube-apiserver", "kube-controller-manager": kube + "kube-controller-manager",
		"kube-scheduler": kube + "kube-scheduler", "kube-proxy": kube + "kube-proxy",
		"kubelet": kube + "kubelet", "kubeadm": kube + "kubeadm", "kubectl": kube + "kubectl",
	}},
	{Dir: "etcd", Module: "go.etcd.io/etcd/server/v3", Programs: map[string]string{"etcd": "go.etcd.io/etcd/server/v3"}},
	{Dir: "containerd", Module: "github.com/containerd/containerd/v2", Programs: map[string]string{
		"containerd":              "github.com/containerd/containerd/v2/cmd/containerd",
		"ctr":                     "github.com/containerd/containerd/v2/cmd/ctr",
		"containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
	}},
	{Dir: "coredns", Module: "github.com/coredns/coredns", Programs: map[string]string{"coredns": "."}},
	{Dir: "kind", Module: "sigs.k8s.io/kind", Programs: map[string]string{"kind": "sigs.k8s.io/kind"}},
	{
		Dir: "vault", Module: "github.com/hashicorp/vault", Programs: map[string]string{"vault": "github.com/hashicorp/vault"},
		// Vault's own minimal set of plugins, and those that the tests need.
		Tags: []string{"minimal"}, Instead: map[string]string{
			"helper/builtinplugins/registry_min.go": "builtinplugins/registry_min.go",
			"command/commands_min.go":               "command/commands_min.go",
		},
	},
	{Dir: "cert-manager", Module: "github.com/cert-manager/cert-manager", Programs: map[string]string{"cert-manager": "."}},
	{Dir: "volume-provisioner", Programs: map[string]string{"volume-provisioner": "."}},
	{Dir: "helm", Module: "helm.sh/helm/v4", Programs: map[string]string{"helm": "helm.sh/helm/v4/cmd/helm"}},
	{Dir: "versitygw", Module: "github.com/versity/versitygw", Programs: map[string]string{"versitygw": "github.com/versity/versitygw/cmd/versitygw"}},
	{Dir: "controller-gen", Module: "sigs.k8s.io/controller-tools", Programs: map[string]string{"controller-gen": "sigs.k8s.io/controller-tools/cmd/controller-gen"}},
	{Dir: "golangci-lint", Module: "github.com/golangci/golangci-lint/v2", Programs: map[string]string{"golangci-lint": "github.com/golangci/golangci-lint/v2/cmd/golangci-lint"}},
}

// kubeVersion sets the version that `kubeadm` and the API server report. Without it, they report
// v0.0.0-master and do not work together.
func kubeVersion(version string) []string {
	major, minor := majorMinor(version)
	const p = "-X k8s.io/component-base/version."
	return []string{p + "gitVersion=" + version, p + "gitMajor=" + major, p + "gitMinor=" + minor}
}
