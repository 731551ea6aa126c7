// Package toolchain builds the programs that the cluster and the tests need, from the Go modules
// pinned in hack/tools, once per version and machine.
package toolchain

import "slices"

// Tool is one module below hack/tools and the programs built from it.
type Tool struct {
	Dir      string                        // below hack/tools
	Module   string                        // whose version names the tool; empty: the tool is ours
	Programs map[string]string             // file name to package path
	Stamp    func(version string) []string // linker flags that tell a program its version
	Tags     []string                      // build tags
	Instead  map[string]string             // of a file of the module, by its path there, one of ours in Dir
}

// A Program is the file name of one of the catalog's binaries.
type Program string

// The programs, by the name under which each is installed.
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
)

// Sets of programs, by what they are for.
var (
	// ForCluster is needed wherever a cluster is brought up.
	ForCluster = []Program{Kind, Helm, VolumeProvisioner}
	// ForNodeImage is needed where no registry offers a node image.
	ForNodeImage = []Program{APIServer, ControllerManager, Scheduler, Proxy, Kubelet, Kubeadm, Kubectl, Etcd, Containerd, Ctr, Shim, CoreDNS}
	// ForOffline is what hack/offline makes images of.
	ForOffline = append(slices.Clone(ForNodeImage), CertManager, Vault)
	// ForIntegration is what tests start by themselves.
	ForIntegration = []Program{APIServer, Etcd, Kubectl, Scheduler, Vault, Helm}
	// ForDevelopment generates and checks.
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
		// Vault's own choice of few plugins, and what the tests need besides.
		Tags: []string{"minimal"}, Instead: map[string]string{
			"helper/builtinplugins/registry_min.go": "builtinplugins/registry_min.go",
			"command/commands_min.go":               "command/commands_min.go",
		},
	},
	{Dir: "cert-manager", Module: "github.com/cert-manager/cert-manager", Programs: map[string]string{"cert-manager": "."}},
	{Dir: "volume-provisioner", Programs: map[string]string{"volume-provisioner": "."}},
	{Dir: "helm", Module: "helm.sh/helm/v4", Programs: map[string]string{"helm": "helm.sh/helm/v4/cmd/helm"}},
	{Dir: "controller-gen", Module: "sigs.k8s.io/controller-tools", Programs: map[string]string{"controller-gen": "sigs.k8s.io/controller-tools/cmd/controller-gen"}},
	{Dir: "golangci-lint", Module: "github.com/golangci/golangci-lint/v2", Programs: map[string]string{"golangci-lint": "github.com/golangci/golangci-lint/v2/cmd/golangci-lint"}},
}

// kubeVersion sets what `kubeadm` and the API server report: without it they call themselves
// v0.0.0-master and refuse to talk to each other.
func kubeVersion(version string) []string {
	major, minor := majorMinor(version)
	const p = "-X k8s.io/component-base/version."
	return []string{p + "gitVersion=" + version, p + "gitMajor=" + major, p + "gitMinor=" + minor}
}
