package addons

import (
	"os"
	"path/filepath"
	"testing"
)

// TestKeysNeverKept checks that only an interruption between Vault's initialisation and the storage
// of its keys counts as keys that were never stored.
func TestKeysNeverKept(t *testing.T) {
	for name, tc := range map[string]struct {
		mark, kept, want bool
	}{
		"before the first run":            {mark: false, kept: false, want: false},
		"killed before the keys are kept": {mark: true, want: true},
		"killed with the keys kept":       {mark: true, kept: true, want: false},
		"initialised":                     {kept: true, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			keys := filepath.Join(t.TempDir(), "keys.json")
			for path, there := range map[string]bool{keys: tc.kept, mark(keys): tc.mark} {
				if !there {
					continue
				}
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := keysNeverKept(keys); got != tc.want {
				t.Errorf("%t, want %t", got, tc.want)
			}
		})
	}
}
