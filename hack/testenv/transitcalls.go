package testenv

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TransitCalls counts the uses of the keys of Vault's Transit engine. It is the path of an audit
// log.
type TransitCalls string

// CountTransitCalls turns on Vault's audit log.
func (v *Vault) CountTransitCalls(t testing.TB) TransitCalls {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	if _, err := v.Client(t).Logical().Write("sys/audit/count", map[string]any{"type": "file", "options": map[string]string{"file_path": path}}); err != nil {
		t.Fatal(err)
	}
	return TransitCalls(path)
}

// Count returns the number of calls so far, without those that only read or change the settings of
// a key.
func (c TransitCalls) Count(t testing.TB) (calls int) {
	t.Helper()
	file, err := os.Open(string(c))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		line := lines.Bytes()
		if bytes.Contains(line, []byte(`"type":"response"`)) && bytes.Contains(line, []byte(`"path":"transit/`)) && !bytes.Contains(line, []byte(`"path":"transit/keys/`)) {
			calls++
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return calls
}
