// Package kube controls the cluster with kubectl, so that errors are those that users know.
package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/proc"
)

// Client runs kubectl against one cluster.
type Client struct {
	Kubectl    string // path of the program
	Kubeconfig string
}

// Command returns a kubectl command for this cluster.
func (c Client) Command(args ...string) *proc.Cmd {
	return proc.New(c.Kubectl, append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
}

// FieldManager is the field manager of hack/kind in server-side apply.
const FieldManager = "securenotes-hack-kind"

// Apply applies manifests by server-side apply.
func (c Client) Apply(ctx context.Context, manifests string) error {
	return c.Command("apply", "--server-side", "--force-conflicts", "--field-manager", FieldManager, "-f", "-").
		WithStdin(strings.NewReader(manifests)).Run(ctx)
}

// Get decodes one object, and reports whether it exists. Names are as kubectl expects them.
func (c Client) Get(ctx context.Context, namespace, kind, name string, into any) (found bool, err error) {
	out, err := c.Command("-n", namespace, "get", kind, name, "--ignore-not-found", "-o", "json").Output(ctx)
	if err != nil || strings.TrimSpace(out) == "" {
		return false, err
	}
	return true, json.Unmarshal([]byte(out), into)
}

// Rollout waits until the roll-out of a workload is complete.
func (c Client) Rollout(ctx context.Context, namespace, workload string, patience time.Duration) error {
	err := c.Command("-n", namespace, "rollout", "status", workload, "--timeout", patience.String()).Run(ctx)
	if err != nil {
		return fmt.Errorf("%w%s", err, c.Describe(ctx, namespace))
	}
	return nil
}

// WaitFor waits for a condition of one object.
func (c Client) WaitFor(ctx context.Context, namespace, object, condition string, patience time.Duration) error {
	err := c.Command("-n", namespace, "wait", object, "--for=condition="+condition, "--timeout", patience.String()).Run(ctx)
	if err != nil {
		return fmt.Errorf("%w%s", err, c.Describe(ctx, namespace))
	}
	return nil
}

// Describe returns the state of a namespace that helps to find out why something does not start.
func (c Client) Describe(ctx context.Context, namespace string) string {
	var b strings.Builder
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp", "--field-selector", "type!=Normal"},
	} {
		out, err := c.Command(append([]string{"-n", namespace}, args...)...).Output(ctx)
		if err != nil || out == "" {
			continue
		}
		lines := strings.Split(out, "\n")
		if len(lines) > 12 {
			lines = append(lines[:1], lines[len(lines)-11:]...)
		}
		b.WriteString("\n    kubectl -n " + namespace + " " + strings.Join(args[:2], " ") + ":\n      " + strings.Join(lines, "\n      "))
	}
	return b.String()
}

// Ready reports whether the API server answers.
func (c Client) Ready(ctx context.Context) bool {
	return c.Command("get", "--raw", "/readyz", "--request-timeout", "5s").Run(ctx) == nil
}

// Until repeats check until it returns nil. After patience, it returns the last error.
func Until(ctx context.Context, patience, pause time.Duration, check func(context.Context) error) error {
	deadline := time.Now().Add(patience)
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("still not after %s: %w", patience, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// errNoAddress is returned when kubectl port-forward ends before it listens.
var errNoAddress = errors.New("kubectl port-forward printed no address")
