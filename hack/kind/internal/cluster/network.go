package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/internal/kube"
)

// address of a node in the cluster's network and of its pods.
type address struct{ node, ip, pods string }

// network sets up the pod network: a bridge on every node, and static routes between the nodes. It
// can be repeated, and repairs restarted nodes.
func (c Cluster) network(ctx context.Context, own bool) error {
	if !own {
		return nil // kind's image has kindnet and a resolver with a way out
	}
	var addresses []address
	if err := kube.Until(ctx, time.Minute, time.Second, func(ctx context.Context) (err error) {
		addresses, err = c.addresses(ctx)
		return err
	}); err != nil {
		return err
	}
	for _, a := range addresses {
		var routes strings.Builder
		for _, other := range addresses {
			if other.node != a.node {
				_, _ = fmt.Fprintf(&routes, "route replace %s via %s\n", other.pods, other.ip)
			}
		}
		script := "cat > /etc/securenotes/pod-routes && ip -batch /etc/securenotes/pod-routes"
		if err := c.Docker.Command("exec", "-i", a.node, "sh", "-c", script).WithStdin(strings.NewReader(routes.String())).Run(ctx); err != nil {
			return err
		}
		// Written atomically, because containerd watches the directory and reads at once.
		script = "cat > /etc/cni/net.d/.new && mv /etc/cni/net.d/.new /etc/cni/net.d/10-bridge.conflist"
		if err := c.Docker.Command("exec", "-i", a.node, "sh", "-c", script).WithStdin(strings.NewReader(cni(a.pods))).Run(ctx); err != nil {
			return err
		}
	}
	return c.dns(ctx)
}

func cni(pods string) string {
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "securenotes", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`, pods)
}

func (c Cluster) addresses(ctx context.Context) ([]address, error) {
	out, err := c.Kube.Command("get", "nodes", "-o", "json").Output(ctx)
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ PodCIDR string }
			Status   struct {
				Addresses []struct{ Type, Address string }
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	var all []address
	for _, n := range list.Items {
		a := address{node: n.Metadata.Name, pods: n.Spec.PodCIDR}
		for _, x := range n.Status.Addresses {
			if x.Type == "InternalIP" {
				a.ip = x.Address
			}
		}
		if a.ip == "" || a.pods == "" {
			return nil, fmt.Errorf("node %s has no addresses yet", a.node)
		}
		all = append(all, a)
	}
	if len(all) == 0 {
		return nil, errors.New("no node has joined yet")
	}
	return all, nil
}

var (
	loop    = regexp.MustCompile(`(?m)^\s*loop\n`)
	forward = regexp.MustCompile(`(?m)^\s*forward [^{\n]*\{[^}]*\}\n`)
)

// dns removes two plugins from CoreDNS's configuration that do not work on a node without a way
// out. The node's resolver is Docker's at 127.0.0.11, which `loop` takes for a loop, and stops the
// server.
func (c Cluster) dns(ctx context.Context) error {
	var cm struct {
		Data map[string]string `json:"data"`
	}
	if _, err := c.Kube.Get(ctx, "kube-system", "configmap", "coredns", &cm); err != nil {
		return err
	}
	want := forward.ReplaceAllString(loop.ReplaceAllString(cm.Data["Corefile"], ""), "")
	if want != cm.Data["Corefile"] {
		patch, err := json.Marshal(map[string]any{"data": map[string]string{"Corefile": want}})
		if err != nil {
			return err
		}
		if err := c.Kube.Command("-n", "kube-system", "patch", "configmap", "coredns", "--type", "merge", "--patch", string(patch)).Run(ctx); err != nil {
			return err
		}
		if err := c.Kube.Command("-n", "kube-system", "rollout", "restart", "deployment/coredns").Run(ctx); err != nil {
			return err
		}
	}
	return c.Kube.Rollout(ctx, "kube-system", "deployment/coredns", 2*time.Minute)
}
