//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
)

func (c *cluster) sample() *v1alpha1.SecureNotes {
	return &v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: c.name}}
}

func TestClientFlow(t *testing.T) {
	c := open(t)
	u := signUp(t, c.connect(t, c.url))
	notes := map[string]string{}
	for i := range 3 {
		content := fmt.Sprintf("note %d", i)
		notes[u.write(t, content)] = content
	}
	u.mustRead(t, notes)
	retry(t, func(ctx context.Context) error {
		page, err := u.ListNotes(ctx, 0, "")
		if err == nil && len(page.Notes) != 3 {
			t.Errorf("%d notes listed, want 3", len(page.Notes))
		}
		return err
	})
	stranger := signUp(t, c.connect(t, c.url))
	for id := range notes {
		get := func(u *user) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := u.GetNote(ctx, id)
				return err
			}
		}
		eventuallyRefused(t, http.StatusNotFound, get(stranger))
		retry(t, func(ctx context.Context) error { return u.DeleteNote(ctx, id, "") })
		eventuallyRefused(t, http.StatusNotFound, get(u))
	}
	retry(t, u.Logout)
	eventuallyRefused(t, http.StatusUnauthorized, u.list)
}

func TestTransport(t *testing.T) {
	c := open(t)
	address := strings.TrimPrefix(c.url, "https://")
	for name, settings := range map[string]*tls.Config{
		"an untrusted CA":     {},
		"another server name": {RootCAs: trusted(t, c.ca), ServerName: "other.example"},
		"TLS 1.2":             {RootCAs: trusted(t, c.ca), MaxVersion: tls.VersionTLS12},
	} {
		if conn, err := tls.Dial("tcp", address, settings); err == nil {
			_ = conn.Close()
			t.Errorf("%s: connected", name)
		}
	}
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: trusted(t, c.ca)})
	if err != nil {
		t.Fatal(err)
	}
	if version := conn.ConnectionState().Version; version != tls.VersionTLS13 {
		t.Errorf("TLS version %x, want 1.3", version)
	}
	_ = conn.Close()
}

// TestProcessIsConfined inspects the running process on its node, instead of the spec of its pod.
func TestProcessIsConfined(t *testing.T) {
	c := open(t)
	for _, pod := range c.apiPods(t, c.namespace, c.name) {
		script := `for p in /proc/[0-9]*; do
			grep -q 'securenotes' $p/cmdline 2>/dev/null && grep -q serve $p/cmdline 2>/dev/null || continue
			grep -q "$1" $p/cgroup $p/mountinfo 2>/dev/null || continue
			grep -E '^(Uid|NoNewPrivs|CapEff|Seccomp):' $p/status; grep -E ' / ' $p/mounts | head -1
		done`
		out, err := exec.Command("docker", "exec", pod.Spec.NodeName, "sh", "-c", script, "sh", string(pod.UID)).CombinedOutput()
		if err != nil || len(out) == 0 {
			t.Fatalf("pod %s: no process found on %s: %v %s", pod.Name, pod.Spec.NodeName, err, out)
		}
		for what, pattern := range map[string]string{
			"not root":                   `Uid:\s+65532\s+65532\s+65532\s+65532`,
			"no new privileges":          `NoNewPrivs:\s+1`,
			"no capabilities":            `CapEff:\s+0000000000000000`,
			"seccomp filter":             `Seccomp:\s+2`,
			"read-only root file system": ` / \S+ ro[, ]`,
		} {
			if !regexp.MustCompile(pattern).Match(out) {
				t.Errorf("pod %s: %s: this is not the case:\n%s", pod.Name, what, out)
			}
		}
	}
}

func TestKilledPodsComeBack(t *testing.T) {
	c := open(t)
	u := signUp(t, c.connect(t, c.url))
	notes := map[string]string{u.write(t, "outlives its pod"): "outlives its pod"}
	c.killAPIPods(t)
	u.Close()
	u.mustRead(t, notes)
	c.ready(t, c.sample())
}

// killAPIPods kills every pod of the sample's API at once, without a grace period, and waits until
// as many new pods are ready.
func (c *cluster) killAPIPods(t testing.TB) {
	t.Helper()
	pods := c.apiPods(t, c.namespace, c.name)
	if len(pods) == 0 {
		t.Fatal("no pods")
	}
	killed := map[types.UID]bool{}
	args := []string{"-n", c.namespace, "delete", "pod", "--grace-period=0", "--force"}
	for _, pod := range pods {
		killed[pod.UID] = true
		args = append(args, pod.Name)
	}
	kubectl(t, args...)
	poll.Eventually(t, 3*time.Minute, "as many other pods to be ready", func(context.Context) error {
		ready := 0
		for _, pod := range c.apiPods(t, c.namespace, c.name) {
			if !killed[pod.UID] && isReady(pod) {
				ready++
			}
		}
		if ready < len(pods) {
			return fmt.Errorf("%d of %d are ready", ready, len(pods))
		}
		return nil
	})
}

// TestNoPlaintextAnywhere writes random words and then searches for them everywhere, in every form
// in which they could have been stored.
func TestNoPlaintextAnywhere(t *testing.T) {
	c := open(t)
	u := signUp(t, c.connect(t, c.url))
	secrets := map[string]string{"content": rand.Text(), "title": rand.Text(), "tag": rand.Text(), "password": u.password, "token": u.Token()}
	id := ""
	retry(t, func(ctx context.Context) error {
		note, err := u.CreateNote(ctx, notesclient.Content{Content: secrets["content"], Title: secrets["title"], Tags: []string{secrets["tag"]}})
		if err == nil {
			id = note.ID
		}
		return err
	})
	u.mustRead(t, map[string]string{id: secrets["content"]})
	eventuallyRefused(t, http.StatusUnauthorized, func(ctx context.Context) error {
		_, err := u.Login(ctx, "nobody", u.password)
		return err
	})

	haystacks := map[string]string{
		"a dump of the database": kubectl(t, "-n", "postgres", "exec", "postgres-0", "-c", "postgres", "--",
			"/usr/lib/postgresql/15/bin/pg_dump", "--host=/var/run/postgresql", "--username=postgres", "notes"),
		"PostgreSQL's log": kubectl(t, "-n", "postgres", "logs", "postgres-0", "-c", "postgres"),
	}
	if !strings.Contains(haystacks["a dump of the database"], id) {
		t.Fatal("the dump does not contain the note's row: the search would prove nothing")
	}
	c.addObjects(t, haystacks)
	for _, namespace := range []string{c.namespace, operatorNamespace} {
		for _, pod := range strings.Fields(kubectl(t, "-n", namespace, "get", "pods", "-o", "name")) {
			haystacks["the log of "+pod] = kubectl(t, "-n", namespace, "logs", pod, "--all-containers", "--ignore-errors")
		}
	}
	for where, text := range haystacks {
		for what, secret := range secrets {
			for form, needle := range map[string]string{
				"as it is": secret, "in hex": hex.EncodeToString([]byte(secret)),
				"in base64": strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "="),
			} {
				if strings.Contains(text, needle) {
					t.Errorf("%s contains the %s, %s", where, what, form)
				}
			}
		}
	}
}

// addObjects adds every object of the cluster as JSON, one text for each kind.
func (c *cluster) addObjects(t testing.TB, to map[string]string) {
	t.Helper()
	kinds, err := discovery.NewDiscoveryClientForConfigOrDie(c.settings).ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	objects := dynamic.NewForConfigOrDie(c.settings)
	for _, group := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list"}}, kinds) {
		version, err := schema.ParseGroupVersion(group.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range group.APIResources {
			list, err := objects.Resource(version.WithResource(kind.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatalf("list %s: %v", kind.Name, err)
			}
			raw, err := list.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			to["objects of "+kind.Name+"."+version.Group] = string(raw)
		}
	}
	if !strings.Contains(to["objects of secrets."], `"notes-database"`) {
		t.Fatal("the Secret notes-database is not among the objects: the search would prove nothing")
	}
}
