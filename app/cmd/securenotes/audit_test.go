package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/internal/audit"
)

// auditSigner signs like Vault, with a key of the test.
type auditSigner struct{ ed25519.PrivateKey }

func (s auditSigner) Sign(_ context.Context, message []byte) (string, error) {
	return "vault:v1:" + base64.StdEncoding.EncodeToString(ed25519.Sign(s.PrivateKey, message)), nil
}

// TestAuditVerifyReport checks that the command vouches for signed lines only.
func TestAuditVerifyReport(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys.json")
	published := fmt.Sprintf(`{"data":{"keys":{"1":{"public_key":%q}}}}`, base64.StdEncoding.EncodeToString(public))
	if err := os.WriteFile(keys, []byte(published), 0o600); err != nil {
		t.Fatal(err)
	}
	chain := func(events int, end bool) string {
		var out bytes.Buffer
		l, err := audit.New(&out, "d1", auditSigner{private}, slog.New(slog.DiscardHandler))
		for range events {
			if err == nil {
				err = l.Write(audit.Event{Action: "note.read"})
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if end {
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			l.Run(ended)
		}
		return out.String()
	}
	for name, tc := range map[string]struct {
		log    string
		want   []string
		failed bool
	}{
		"signed": {log: chain(3, true), want: []string{"5 audit lines in 1 chains are unchanged; 1 signatures verified\n"}},
		"signed and open": {log: chain(3, true) + chain(5, false), want: []string{
			"5 of 11 audit lines in 2 chains are unchanged; 1 signatures verified\n",
			"6 lines of 1 open chains, from 20", "are not signed: they may be forged, and lines after them may be missing\n",
		}},
		"only open":         {log: chain(5, false), want: []string{"0 of 6 audit lines in 1 chains are unchanged; 0 signatures verified\n6 lines"}},
		"too many unsigned": {log: chain(2000, false), want: nil, failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "service.log")
			if err := os.WriteFile(file, []byte(tc.log), 0o600); err != nil {
				t.Fatal(err)
			}
			command := auditCommand()
			var out bytes.Buffer
			command.SetOut(&out)
			command.SetErr(&out)
			command.SetArgs([]string{"verify", "--allow-open", "--public-keys", keys, file})
			err := command.Execute()
			if (err != nil) != tc.failed {
				t.Errorf("error %v, want one: %v", err, tc.failed)
			}
			got := out.String()
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q does not contain %q", got, want)
				}
			}
		})
	}
}
