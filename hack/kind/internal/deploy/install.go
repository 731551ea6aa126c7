package deploy

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/internal/cluster"
	"github.com/securenotes/securenotes/hack/kind/internal/kube"
	"github.com/securenotes/securenotes/hack/kind/layout"
)

// Operator installs or upgrades the chart and waits until it is ready.
func (d Deploy) Operator(ctx context.Context) (string, error) {
	values, err := d.values()
	if err != nil {
		return "", err
	}
	path := d.Layout.Cluster("values.json")
	if err := layout.WriteFile(path, values, 0o644); err != nil {
		return "", err
	}
	chart := filepath.Join(d.Layout.Root, "charts", "securenotes-operator")
	if err := d.Addons.Install(ctx, Release, chart, OperatorNamespace, "--create-namespace", "--wait", "--timeout", "3m", "--values", path); err != nil {
		return "", err
	}
	return "chart " + Release + " in " + OperatorNamespace, nil
}

// Sample applies config/samples and makes the sample's API available on a port of this machine.
func (d Deploy) Sample(ctx context.Context) (string, error) {
	if err := d.Kube.Command("apply", "--server-side", "--force-conflicts", "--field-manager", kube.FieldManager,
		"-k", filepath.Join(d.Layout.Root, "config", "samples")).Run(ctx); err != nil {
		return "", err
	}
	if err := d.Kube.Apply(ctx, fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %[1]s-nodeport, namespace: %[2]s}
spec:
  type: NodePort
  selector: {app.kubernetes.io/name: securenotes, app.kubernetes.io/instance: %[1]s, app.kubernetes.io/component: api}
  ports: [{name: https, port: 443, targetPort: https, nodePort: %[3]d}]
`, Name, Namespace, cluster.NodePort)); err != nil {
		return "", err
	}
	// The condition may be absent at first, so poll, and show all conditions at the end.
	err := kube.Until(ctx, 4*time.Minute, time.Second, func(ctx context.Context) error { return d.ready(ctx) })
	if err != nil {
		return "", fmt.Errorf("%w%s", err, d.Kube.Describe(ctx, Namespace))
	}
	return "SecureNotes " + Namespace + "/" + Name + " is Ready", d.writeRunEnv()
}

func (d Deploy) ready(ctx context.Context) error {
	var sn struct {
		Metadata struct{ Generation int64 }
		Status   struct {
			ObservedGeneration int64
			Conditions         []struct{ Type, Status, Reason, Message string }
		}
	}
	found, err := d.Kube.Get(ctx, Namespace, "securenotes.securenotes.dev", Name, &sn)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("config/samples created no SecureNotes %s in namespace %s", Name, Namespace)
	}
	if sn.Status.ObservedGeneration < sn.Metadata.Generation {
		return errors.New("the operator has not reconciled it yet")
	}
	var bad []string
	for _, c := range sn.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" {
			return nil
		}
		if c.Status != "True" {
			bad = append(bad, fmt.Sprintf("\n      %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
		}
	}
	return fmt.Errorf("it is not Ready:%s", strings.Join(bad, ""))
}

// URL of the sample on this machine.
var URL = fmt.Sprintf("https://localhost:%d", cluster.HostPort)

func (d Deploy) writeRunEnv() error {
	return layout.WriteFile(d.Layout.RunEnv(), fmt.Appendf(nil, "KUBECONFIG=%s\nURL=%s\nCA=%s\nNAMESPACE=%s\nNAME=%s\n",
		d.Kube.Kubeconfig, URL, d.Layout.CA(), Namespace, Name), 0o644)
}
