package vaultadmin

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/app/config"
)

// TestWritesAreLogged: each write to Vault is one line with its path and versions. A check that
// changes nothing logs nothing, and no line contains a secret.
func TestWritesAreLogged(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{}
	client := vault.start(t)
	var lines []string
	logged := func() context.Context {
		lines = nil
		return log.IntoContext(t.Context(), funcr.NewJSON(func(line string) { lines = append(lines, line) }, funcr.Options{Verbosity: 1}))
	}
	state, err := client.Ensure(logged(), vault.deployment(ownUID, false))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{"/keys/", "/data/", `"vault":"`} {
		if !strings.Contains(all, want) {
			t.Errorf("got lines\n%s\nwant one with %s", all, want)
		}
	}
	secrets := 0
	for leaf, versions := range vault.entries {
		if strings.HasSuffix(leaf, "/"+config.MarkerLeaf) {
			continue
		}
		for _, secret := range regexp.MustCompile(`[\w+/=-]{20,}`).FindAllString(string(versions[0].data), -1) {
			secrets++
			if strings.Contains(all, secret) {
				t.Errorf("got lines\n%s\nwant none with a value of %s", all, leaf)
			}
		}
	}
	if secrets == 0 {
		t.Error("Vault holds no secret to compare the log with")
	}
	established := vault.deployment(ownUID, true)
	established.Secrets, established.DeploymentID = state.Secrets, state.DeploymentID
	if _, err := client.Ensure(logged(), established); err != nil || len(lines) != 0 {
		t.Errorf("got error %v and lines %q of a check that changes nothing, want none", err, lines)
	}
	if _, err := client.RaiseMinDecryption(logged(), established, 2); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 || !strings.Contains(lines[0], `"min_decryption_version":2`) {
		t.Errorf("got lines %q, want one with min_decryption_version 2", lines)
	}
}
