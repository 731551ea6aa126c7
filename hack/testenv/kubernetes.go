package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// StartScheduler runs kube-scheduler until the test ends. It schedules only pods with this
// scheduler name, because other pods may wait for a node that a test does not have.
func StartScheduler(t testing.TB, cluster *rest.Config, name string) {
	t.Helper()
	dir := t.TempDir()
	access, configuration := kubeconfig(t, dir, cluster, name), filepath.Join(dir, "scheduler.yaml")
	if err := os.WriteFile(configuration, fmt.Appendf(nil, `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: %q}
leaderElection: {leaderElect: false}
profiles: [{schedulerName: %q}]
`, access, name), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir, "kube-scheduler", syscall.SIGTERM, exec.Command(binary(t, SchedulerVariable), "--config", configuration, "--secure-port=0"))
}

// kubeconfig writes a kubeconfig for the cluster and returns its path.
func kubeconfig(t testing.TB, dir string, cluster *rest.Config, name string) string {
	t.Helper()
	written := api.NewConfig()
	written.Clusters[name] = &api.Cluster{Server: cluster.Host, CertificateAuthorityData: cluster.CAData}
	written.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: cluster.CertData, ClientKeyData: cluster.KeyData}
	written.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	written.CurrentContext = name
	path := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*written, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Helm runs helm against the cluster and returns its output, standard error included.
func Helm(t testing.TB, cluster *rest.Config, arguments ...string) (string, error) {
	t.Helper()
	arguments = append(arguments, "--kubeconfig", kubeconfig(t, t.TempDir(), cluster, "helm"))
	out, err := exec.Command(binary(t, HelmVariable), arguments...).CombinedOutput()
	return string(out), err
}

// RenderChart returns the manifests that helm renders from a chart with values of the form
// NAME=VALUE.
func RenderChart(t testing.TB, chart, release, namespace string, values ...string) []byte {
	t.Helper()
	arguments := []string{"template", release, chart, "--namespace", namespace}
	for _, value := range values {
		arguments = append(arguments, "--set", value)
	}
	command := exec.Command(binary(t, HelmVariable), arguments...)
	var failure strings.Builder
	command.Stderr = &failure
	out, err := command.Output()
	if err != nil {
		t.Fatalf("helm template: %v: %s", err, failure.String())
	}
	return out
}
