//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/poll"
)

// TestAuditLog collects the pods' log and verifies it with the public key from Vault, as
// docs/audit.md describes. Then it changes one line.
func TestAuditLog(t *testing.T) {
	t.Parallel() // it only waits for the next checkpoint
	c := open(t)
	c.ready(t, c.sample())
	u := signUp(t, c.connect(t, c.url))
	id := u.write(t, "audited")
	u.read(t, id)

	secret, err := c.vault(t).Logical().Read("transit/keys/" + config.AuditKeyName(c.clusterID(t), c.namespace, c.name))
	if err != nil || secret == nil {
		t.Fatalf("the audit key: %v, %v", secret, err)
	}
	dir := t.TempDir()
	keys, log := filepath.Join(dir, "keys.json"), filepath.Join(dir, "service.log")
	raw, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keys, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	securenotes, err := filepath.Abs("../../bin/securenotes")
	if err != nil {
		t.Fatal(err)
	}
	verify := func(text string) (string, error) {
		if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(securenotes, "audit", "verify", "--allow-open", "--public-keys", keys, log).CombinedOutput()
		return string(out), err
	}

	collected := ""
	poll.Eventually(t, 2*time.Minute, // a checkpoint is written every minute
		"a signed checkpoint after the note was read", func(context.Context) error {
			collected = ""
			for _, pod := range c.apiPods(t, c.namespace, c.name) {
				collected += kubectl(t, "-n", c.namespace, "logs", pod.Name, "-c", "api")
			}
			_, after, found := strings.Cut(collected, `"action":"note.read","outcome":"success","status":200`)
			intended := strings.Contains(collected, `"action":"note.create","outcome":"intent"`)
			if !found || !intended || !strings.Contains(collected, id) || !strings.Contains(after, `"action":"checkpoint"`) {
				return fmt.Errorf("none yet")
			}
			return nil
		})
	if out, err := verify(collected); err != nil {
		t.Fatalf("verify the unchanged log: %v: %s", err, out)
	}
	changed := strings.Replace(collected, `"object":"`+id, `"object":"f`+id[1:], 1)
	if out, err := verify(changed); err == nil || !strings.Contains(out, "edited") {
		t.Errorf("the changed line was not found: %v: %s", err, out)
	}
}
