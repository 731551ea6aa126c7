package archive

import (
	"crypto/rand"
	"regexp"
	"strings"
	"time"
)

// Kind is what a file of a backup holds.
type Kind string

const (
	// KindArchive holds the rows, with sealed values.
	KindArchive Kind = "archive"
	// KindEscrow holds the keys that open them, and the peppers.
	KindEscrow Kind = "escrow"
)

// The endings of the names of a backup's files, after its id.
const (
	manifestSuffix       = ".manifest.json"
	archiveSuffix        = ".tar.zst.age"
	escrowSuffix         = ".escrow.tar.zst.age"
	rekeyedArchiveSuffix = ".rekeyed.tar.zst.age"
	rekeyedEscrowSuffix  = ".rekeyed.escrow.tar.zst.age"
)

var idForm = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[a-z2-7]{16}$`)

// NewID returns the id of a backup that starts now. Its random part cannot be predicted, so nobody
// can occupy the names of a backup's files in advance.
func NewID(now time.Time) string {
	return now.UTC().Format("20060102T150405Z") + "-" + strings.ToLower(rand.Text()[:16])
}

// IsID reports whether text has the form of an id.
func IsID(text string) bool { return idForm.MatchString(text) }

// Name returns the name of a file of the backup with the given id.
func Name(id string, kind Kind, rekeyed bool) string {
	switch {
	case rekeyed && kind == KindEscrow:
		return id + rekeyedEscrowSuffix
	case rekeyed:
		return id + rekeyedArchiveSuffix
	case kind == KindEscrow:
		return id + escrowSuffix
	}
	return id + archiveSuffix
}

// ManifestName returns the name of the manifest of the backup with the given id.
func ManifestName(id string) string { return id + manifestSuffix }

// SplitName returns the id in the name of a backup's file, and whether the file is the manifest. ok
// is false for every other name.
func SplitName(name string) (id string, isManifest, ok bool) {
	id, rest, _ := strings.Cut(name, ".")
	if !IsID(id) {
		return "", false, false
	}
	switch "." + rest {
	case manifestSuffix:
		return id, true, true
	case archiveSuffix, escrowSuffix, rekeyedArchiveSuffix, rekeyedEscrowSuffix:
		return id, false, true
	}
	return "", false, false
}
