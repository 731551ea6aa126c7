package addons

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// helm returns a helm command that does not use the user's configuration.
func (a Addons) helm(args ...string) *proc.Cmd {
	home := a.Layout.Machine("helm")
	return proc.New(a.Tools.Path(toolchain.Helm), args...).
		WithEnv("HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
}

// Install installs or upgrades a chart.
func (a Addons) Install(ctx context.Context, release, chart, namespace string, args ...string) error {
	// After an interrupted upgrade, helm rejects every other one with "another operation is in
	// progress". The machine's lock proves that none is.
	if err := a.Kube.Command("-n", namespace, "delete", "secret", "--ignore-not-found", "--selector",
		"owner=helm,name="+release+",status in (pending-install,pending-upgrade,pending-rollback)").Run(ctx); err != nil {
		return err
	}
	args = append([]string{"upgrade", "--install", release, chart, "--namespace", namespace, "--kubeconfig", a.Kube.Kubeconfig}, args...)
	if err := a.helm(args...).Run(ctx); err != nil {
		return fmt.Errorf("%w%s", err, a.Kube.Describe(ctx, namespace))
	}
	return nil
}

// upstreamChart is a chart of the lock and its installation.
type upstreamChart struct {
	name   string
	images map[imagelock.Use]string // to the values' prefix of each image
}

var (
	certManagerChart = upstreamChart{"cert-manager", map[imagelock.Use]string{
		imagelock.CertManagerController: "image", imagelock.CertManagerWebhook: "webhook.image", imagelock.CertManagerCAInjector: "cainjector.image",
	}}
	vaultChart = upstreamChart{"vault", map[imagelock.Use]string{imagelock.Vault: "server.image"}}
)

// arguments returns the chart's directory and the flags with its values.
func (a Addons) arguments(ctx context.Context, c upstreamChart) (dir string, flags []string, err error) {
	if dir, err = a.chartDir(ctx, c.name); err != nil {
		return "", nil, err
	}
	values, err := charts.ReadFile("charts/" + c.name + ".yaml")
	if err != nil {
		return "", nil, err
	}
	path := a.Layout.Cluster(c.name + "-values.yaml")
	if err := layout.WriteFile(path, values, 0o644); err != nil {
		return "", nil, err
	}
	flags = []string{"--values", path}
	for use, prefix := range c.images {
		image, err := a.Lock.Get(use)
		if err != nil {
			return "", nil, err
		}
		flags = append(flags, "--set-string", prefix+".repository="+image.Name+","+prefix+".tag="+image.Tag)
	}
	return dir, flags, nil
}

// chartDir downloads the chart's Go module, compares its checksum with the lock, and returns the
// chart's directory.
func (a Addons) chartDir(ctx context.Context, name string) (string, error) {
	c, ok := a.Lock.Charts[name]
	if !ok {
		return "", fmt.Errorf("the image lock has no chart %q", name)
	}
	out, err := proc.New("go", "mod", "download", "-json", c.Module+"@"+c.Version).In(a.Layout.Root).WithEnv(toolchain.BuildEnv()...).Output(ctx)
	if err != nil {
		return "", fmt.Errorf("fetch the chart %s: %w", name, err)
	}
	var m struct{ Dir, Sum string }
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		return "", err
	}
	if m.Sum != c.Sum {
		return "", fmt.Errorf("chart %s: module %s %s has the sum %s, and the image lock says %s", name, c.Module, c.Version, m.Sum, c.Sum)
	}
	return filepath.Join(m.Dir, c.Path), nil
}

// checkNamespace is the namespace of the check.
const checkNamespace = "chart-check"

// CheckCharts renders upstream's charts and sends every object to the API server as a dry run, in a
// namespace that warns of pods that the restricted Pod Security Standard rejects.
func (a Addons) CheckCharts(ctx context.Context) (note string, err error) {
	defer func() {
		err := a.Kube.Command("delete", "namespace", checkNamespace, "--ignore-not-found", "--wait=false").Run(context.WithoutCancel(ctx))
		if err != nil {
			a.Say("namespace %s was not removed: %v", checkNamespace, err)
		}
	}()
	if err := a.Kube.Apply(ctx, `apiVersion: v1
kind: Namespace
metadata:
  name: `+checkNamespace+`
  labels: {pod-security.kubernetes.io/warn: restricted}
`); err != nil {
		return "", err
	}
	objects := 0
	for _, c := range []upstreamChart{certManagerChart, vaultChart} {
		dir, flags, err := a.arguments(ctx, c)
		if err != nil {
			return "", err
		}
		flags = append([]string{"template", c.name, dir, "--skip-tests", "--namespace", checkNamespace, "--kubeconfig", a.Kube.Kubeconfig}, flags...)
		rendered, err := a.helm(flags...).Output(ctx)
		if err != nil {
			return "", err
		}
		// Objects of these names may run here, so the dry run must ignore conflicts with their
		// fields.
		out, err := a.Kube.Command("apply", "--dry-run=server", "--server-side", "--force-conflicts", "--warnings-as-errors",
			"--field-manager", "chart-check", "-o", "name", "-f", "-").WithStdin(strings.NewReader(rendered)).Output(ctx)
		if err != nil {
			return "", fmt.Errorf("chart %s: %w", c.name, err)
		}
		objects += len(strings.Fields(out))
	}
	return fmt.Sprintf("%d objects", objects), nil
}
