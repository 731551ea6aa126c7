package archive

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/securenotes/securenotes/app/config"
)

// Manifest describes a backup. It is signed, and contains no user's data.
type Manifest struct {
	// Format is [Format] of the program that wrote the backup.
	Format int    `json:"format"`
	ID     string `json:"id"`
	// Sequence is 1 or more, and grows with each backup of one SecureNotes.
	Sequence   int64      `json:"sequence"`
	Deployment Deployment `json:"deployment"`
	// StartedAt and CompletedAt are in UTC, in whole seconds.
	StartedAt   time.Time `json:"startedAt"`
	CompletedAt time.Time `json:"completedAt"`
	// Program is the version of securenotes that wrote the backup.
	Program string `json:"program"`
	// Schema is the number of the latest migration of the database.
	Schema    int64     `json:"schema"`
	MasterKey MasterKey `json:"masterKey"`
	// Peppers are the ids of the peppers that the archive's password hashes name, in ascending
	// order.
	Peppers []string `json:"peppers"`
	// Rows is the number of rows of each table of the archive.
	Rows    map[string]int64 `json:"rows"`
	Archive File             `json:"archive"`
	// Escrow is nil if the backup has no escrow file.
	Escrow *File `json:"escrow,omitzero"`
}

// Deployment identifies what was backed up.
type Deployment struct {
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// SecureNotesUID is the UID of the object that the backup belongs to.
	SecureNotesUID string `json:"secureNotesUID"`
}

// MasterKey says which versions of the master key the archive needs.
type MasterKey struct {
	Name string `json:"name"`
	// OldestVersion is the least version of any wrapped value, the canary's included.
	OldestVersion int `json:"oldestVersion"`
	// Versions are those from OldestVersion on, in ascending order.
	Versions []KeyVersion `json:"versions"`
}

// KeyVersion is a version of the master key.
type KeyVersion struct {
	Version int `json:"version"`
	// CreatedAt is when Vault created the version. Nil: not known.
	CreatedAt *time.Time `json:"createdAt,omitzero"`
}

// File describes an archive or an escrow file.
type File struct {
	// SHA256 is of the file as stored, in hexadecimal, and Size its length in bytes.
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Content is of what age decrypts the file to. A copy for other recipients has the same.
	Content Digest `json:"content"`
	// TarSize is the length of the decompressed tar stream, in bytes.
	TarSize int64 `json:"tarSize"`
}

// Digest is of a stream.
type Digest struct {
	// SHA256 is in hexadecimal.
	SHA256 string `json:"sha256"`
	// Size is in bytes.
	Size int64 `json:"size"`
}

// File returns what the manifest says of a file. ok is false if the backup has no such file.
func (m *Manifest) File(kind Kind) (f File, ok bool) {
	switch {
	case kind == KindArchive:
		return m.Archive, true
	case m.Escrow != nil:
		return *m.Escrow, true
	}
	return File{}, false
}

// validate returns what is wrong with m, or nil.
func (m *Manifest) validate() error {
	switch {
	case m.Format != Format:
		return fmt.Errorf("format is %d", m.Format)
	case !IsID(m.ID):
		return fmt.Errorf("id is not the id of a backup")
	case m.Sequence < 1:
		return fmt.Errorf("sequence is %d", m.Sequence)
	case m.Schema < 1:
		return fmt.Errorf("schema is %d", m.Schema)
	case len(m.Peppers) > maxPeppers || !ascending(m.Peppers):
		return fmt.Errorf("peppers must be in ascending order, at most %d", maxPeppers)
	case len(m.Rows) < 1 || len(m.Rows) > maxTables:
		return fmt.Errorf("rows has %d tables, and the limit is %d", len(m.Rows), maxTables)
	}
	for field, text := range map[string]string{
		"deployment.id": m.Deployment.ID, "deployment.namespace": m.Deployment.Namespace, "deployment.name": m.Deployment.Name,
		"deployment.secureNotesUID": m.Deployment.SecureNotesUID, "program": m.Program, "masterKey.name": m.MasterKey.Name,
	} {
		if !isText(text) {
			return fmt.Errorf("%s must have 1 to %d bytes of printable text", field, maxText)
		}
	}
	for _, id := range m.Peppers {
		if !isText(id) {
			return fmt.Errorf("an id in peppers must have 1 to %d bytes of printable text", maxText)
		}
	}
	for _, at := range []time.Time{m.StartedAt, m.CompletedAt} {
		if at.Location() != time.UTC || at.Nanosecond() != 0 {
			return fmt.Errorf("startedAt and completedAt must be in UTC, in whole seconds")
		}
	}
	for table, n := range m.Rows {
		if !identifier.MatchString(table) || n < 0 {
			return fmt.Errorf("rows must have names of tables, and counts")
		}
	}
	if err := m.MasterKey.validate(); err != nil {
		return err
	}
	if err := m.Archive.validate(); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if m.Escrow != nil {
		if err := m.Escrow.validate(); err != nil {
			return fmt.Errorf("escrow: %w", err)
		}
	}
	return nil
}

func (k *MasterKey) validate() error {
	if len(k.Versions) < 1 || len(k.Versions) > maxKeyVersions {
		return fmt.Errorf("masterKey.versions has %d versions, and the limit is %d", len(k.Versions), maxKeyVersions)
	}
	if k.OldestVersion < 1 || k.Versions[0].Version != k.OldestVersion {
		return fmt.Errorf("masterKey.versions must begin with oldestVersion")
	}
	for i, version := range k.Versions {
		if i > 0 && version.Version <= k.Versions[i-1].Version {
			return fmt.Errorf("masterKey.versions must be in ascending order")
		}
	}
	return nil
}

func (f *File) validate() error {
	if !config.IsDigest(f.SHA256) || !config.IsDigest(f.Content.SHA256) {
		return fmt.Errorf("sha256 must be 64 hexadecimal digits")
	}
	if f.Size < 1 || f.Content.Size < 1 || f.TarSize < 1 {
		return fmt.Errorf("sizes must be positive")
	}
	return nil
}

// inUTC brings the times of m into the form that the manifest has.
func (m *Manifest) inUTC() {
	m.StartedAt = m.StartedAt.UTC().Truncate(time.Second)
	m.CompletedAt = m.CompletedAt.UTC().Truncate(time.Second)
}

// isText reports whether text is 1 to maxText bytes of printable text. Others can change what a
// terminal shows.
func isText(text string) bool {
	return text != "" && len(text) <= maxText && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// ascending reports whether texts are in strictly ascending order.
func ascending(texts []string) bool {
	for i := 1; i < len(texts); i++ {
		if texts[i-1] >= texts[i] {
			return false
		}
	}
	return true
}
