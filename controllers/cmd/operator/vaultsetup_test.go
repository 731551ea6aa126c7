package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVaultSetupFlags: unusable files are rejected before any request to Vault, and no error
// repeats a token that was passed instead of its file.
func TestVaultSetupFlags(t *testing.T) {
	const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJyZXZpZXdlciJ9.c2lnbmF0dXJl"
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := map[string]struct {
		args []string
		want string
	}{
		"the token instead of its file":   {[]string{"--token-reviewer-jwt-file", jwt}, "--token-reviewer-jwt-file"},
		"a long token":                    {[]string{"--token-reviewer-jwt-file=" + strings.Repeat(jwt, 20)}, "--token-reviewer-jwt-file"},
		"a directory":                     {[]string{"--token-reviewer-jwt-file", dir}, "is a directory"},
		"the token as an argument":        {[]string{jwt}, "no arguments"},
		"the token instead of the host":   {[]string{"--kubernetes-host", jwt}, "--kubernetes-host"},
		"a file without a token":          {[]string{"--token-reviewer-jwt-file", file("empty.jwt", "\n")}, "--token-reviewer-jwt-file"},
		"an empty CA file":                {[]string{"--kubernetes-ca-file", file("empty.crt", "")}, "no certificate"},
		"a CA file without PEM":           {[]string{"--kubernetes-ca-file", file("token.crt", jwt)}, "no certificate"},
		"no name of a CA file":            {[]string{"--kubernetes-ca-file", ""}, "--kubernetes-ca-file is empty"},
		"no name of a token's file":       {[]string{"--token-reviewer-jwt-file="}, "--token-reviewer-jwt-file is empty"},
		"an empty host":                   {[]string{"--kubernetes-host", ""}, "--kubernetes-host is empty"},
		"an empty cluster id":             {[]string{"--cluster-id", ""}, "--cluster-id is empty"},
		"an empty audience":               {[]string{"--audience", ""}, "--audience is empty"},
		"no database mount is not a slip": {[]string{"--database-mount="}, "VAULT_TOKEN is not set"},
	}
	t.Setenv("VAULT_TOKEN", "")
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			root := command()
			root.SetArgs(append([]string{"vault-setup", "--cluster-id", "cluster"}, tc.args...))
			root.SetOut(&out)
			root.SetErr(&out)
			err := root.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want one that says %q", err, tc.want)
			}
			if strings.Contains(err.Error()+out.String(), "eyJ") {
				t.Errorf("it repeats the token: %v\n%s", err, out.String())
			}
		})
	}
}
