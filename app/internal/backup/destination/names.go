package destination

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// endings are the ends of the names of a backup's files. The first one is that of the manifest.
var endings = []string{manifestEnding, ".tar.zst.age", ".escrow.tar.zst.age", ".rekeyed.tar.zst.age", ".rekeyed.escrow.tar.zst.age"}

const manifestEnding = ".manifest.json"

// backupName matches the ID of a backup.
var backupName = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[a-z2-7]{16}$`)

// split returns the ID of the backup that a file belongs to, and the index of the name's ending.
// The name of a backup's file is no path.
func split(name string) (id string, ending int, ok bool) {
	dot := strings.IndexByte(name, '.')
	if dot < 0 || !backupName.MatchString(name[:dot]) {
		return "", 0, false
	}
	ending = slices.Index(endings, name[dot:])
	return name[:dot], ending, ending >= 0
}

// isManifest reports whether a file is the manifest of a backup.
func isManifest(name string) bool {
	_, ending, ok := split(name)
	return ok && endings[ending] == manifestEnding
}

// checkName rejects a name that List would not return.
func checkName(name string) error {
	if _, _, ok := split(name); !ok {
		return fmt.Errorf("%q is not the name of a backup's file", name)
	}
	return nil
}

// temporaryName returns a name that no file has, and that List does not return.
func temporaryName(manifest string) string { return "." + manifest + "." + rand.Text() }

// temporaryEnding matches what temporaryName adds to the name of a manifest.
var temporaryEnding = regexp.MustCompile(`\.[A-Z2-7]{26}$`)

// isTemporary reports whether temporaryName could return a name.
func isTemporary(name string) bool {
	manifest, hidden := strings.CutPrefix(temporaryEnding.ReplaceAllString(name, ""), ".")
	return hidden && temporaryEnding.MatchString(name) && isManifest(manifest)
}
