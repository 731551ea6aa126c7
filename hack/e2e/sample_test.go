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

	"github.com/securenotes/securenotes/api/v1alpha1"
)

func (c *cluster) sample() *v1alpha1.SecureNotes {
	return &v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: c.name}}
}

func TestClientFlow(t *testing.T) {
	c := open(t)
	n := c.clientAt(t, c.url)
	n.signIn(t, rand.Text())
	notes := map[string]string{}
	for i := range 3 {
		content := fmt.Sprintf("note %d", i)
		notes[n.write(t, content, "title")] = content
	}
	n.reads(t, notes)
	if list := n.must(t, http.StatusOK, http.MethodGet, "/api/notes", nil)["notes"].([]any); len(list) != 3 {
		t.Errorf("%d notes listed, want 3", len(list))
	}
	stranger := c.clientAt(t, c.url)
	stranger.signIn(t, rand.Text())
	for id := range notes {
		stranger.must(t, http.StatusNotFound, http.MethodGet, "/api/notes/"+id, nil)
		n.must(t, http.StatusOK, http.MethodDelete, "/api/notes/"+id, nil)
		n.must(t, http.StatusNotFound, http.MethodGet, "/api/notes/"+id, nil)
	}
	n.must(t, http.StatusOK, http.MethodPost, "/api/auth/logout", nil)
	n.must(t, http.StatusUnauthorized, http.MethodGet, "/api/notes", nil)
}

func TestTransport(t *testing.T) {
	c := open(t)
	address := strings.TrimPrefix(c.url, "https://")
	for name, settings := range map[string]*tls.Config{
		"an authority that is not trusted": {},
		"another server name":              {RootCAs: trusted(t, c.ca), ServerName: "other.example"},
		"TLS 1.2":                          {RootCAs: trusted(t, c.ca), MaxVersion: tls.VersionTLS12},
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

// TestProcessIsConfined looks at the running process from its node, not at what its pod asks for.
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
				t.Errorf("pod %s: %s: not so:\n%s", pod.Name, what, out)
			}
		}
	}
}

func TestKilledPodsComeBack(t *testing.T) {
	c := open(t)
	n := c.clientAt(t, c.url)
	n.signIn(t, rand.Text())
	notes := map[string]string{n.write(t, "outlives its pod", ""): "outlives its pod"}
	pods := c.apiPods(t, c.namespace, c.name)
	if len(pods) == 0 {
		t.Fatal("no pods")
	}
	for _, pod := range pods {
		kubectl(t, "-n", c.namespace, "delete", "pod", pod.Name, "--grace-period=0", "--force")
	}
	eventually(t, 3*time.Minute, "new pods to serve", func(context.Context) error {
		n.http.CloseIdleConnections()
		status, _, err := n.call(http.MethodGet, "/api/notes", nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	n.reads(t, notes)
	c.ready(t, c.sample())
}

// TestNoPlaintextAnywhere writes words that nobody else knows and then searches for them, in the forms
// that they could have been stored in.
func TestNoPlaintextAnywhere(t *testing.T) {
	c := open(t)
	n := c.clientAt(t, c.url)
	secrets := map[string]string{"content": rand.Text(), "title": rand.Text(), "tag": rand.Text(), "password": rand.Text()}
	n.signIn(t, secrets["password"])
	id := n.must(t, http.StatusCreated, http.MethodPost, "/api/notes", map[string]any{
		"content": secrets["content"], "title": secrets["title"], "tags": []string{secrets["tag"]},
	})["id"].(string)
	n.reads(t, map[string]string{id: secrets["content"]})
	n.call(http.MethodPost, "/api/auth/login", map[string]string{"username": "nobody", "password": secrets["password"]})
	secrets["token"] = n.token

	haystacks := map[string]string{
		"a dump of the database": kubectl(t, "-n", "postgres", "exec", "postgres-0", "-c", "postgres", "--",
			"/usr/lib/postgresql/15/bin/pg_dump", "--host=/var/run/postgresql", "--username=postgres", "notes"),
		"PostgreSQL's log": kubectl(t, "-n", "postgres", "logs", "postgres-0", "-c", "postgres"),
		"events":           kubectl(t, "get", "events", "--all-namespaces", "-o", "yaml"),
	}
	if !strings.Contains(haystacks["a dump of the database"], id) {
		t.Fatal("the dump does not hold the note's row: the search would prove nothing")
	}
	for _, kind := range strings.Fields(kubectl(t, "api-resources", "--verbs=list", "-o", "name")) {
		if strings.HasPrefix(kind, "events") {
			continue
		}
		haystacks["objects of "+kind] = kubectl(t, "get", kind, "--all-namespaces", "-o", "yaml", "--ignore-not-found")
	}
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
					t.Errorf("%s holds the %s, %s", where, what, form)
				}
			}
		}
	}
}
