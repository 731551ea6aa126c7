package archive_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
)

// TestManifestRoundTrip checks that a manifest is verified as it was signed.
func TestManifestRoundTrip(t *testing.T) {
	b := newBackup(t)
	b.manifest.StartedAt = started.In(time.FixedZone("CET", 3600)).Add(123 * time.Millisecond)
	b.sign(t)
	got, err := b.verified(t)
	if err != nil {
		t.Fatal(err)
	}
	want := b.manifest
	want.Format, want.StartedAt = archive.Format, started
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("manifest differs (-want +got):\n%s", diff)
	}
}

// resigned returns a manifest file with payload as it is, signed by the current version.
func resigned(t *testing.T, payloadType string, payload []byte) []byte {
	t.Helper()
	signature, err := current().SignBackup(t.Context(), fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"payloadType":%q,"payload":%q,"signatures":[{"keyid":"%s:v2","sig":%q}]}`,
		payloadType, base64.StdEncoding.EncodeToString(payload), backupKey, strings.TrimPrefix(signature, "vault:v2:"))
}

// TestManifestsAreRefused checks manifest files, and the keys that verify them.
func TestManifestsAreRefused(t *testing.T) {
	b := newBackup(t)
	name := archive.ManifestName(b.id)
	good := b.files[name]
	var envelope struct {
		Payload    []byte `json:"payload"`
		Signatures []struct{ KeyID, Sig string }
	}
	if err := json.Unmarshal(good, &envelope); err != nil {
		t.Fatal(err)
	}
	replaced := func(old, new string) []byte {
		raw := bytes.Replace(good, []byte(old), []byte(new), 1)
		if bytes.Equal(raw, good) {
			t.Fatalf("%s has no %s", good, old)
		}
		return raw
	}
	payload := func(old, new string) []byte {
		edited := bytes.Replace(envelope.Payload, []byte(old), []byte(new), 1)
		if bytes.Equal(edited, envelope.Payload) {
			t.Fatalf("%s has no %s", envelope.Payload, old)
		}
		return resigned(t, archive.PayloadType, edited)
	}
	signature := string(good[bytes.Index(good, []byte(`[{`)) : len(good)-1])
	otherKeys := trusted()
	otherKeys.Key = "sn-backup-cluster.notes.other"
	oldKeys := &config.BackupKeys{Key: backupKey, Versions: trusted().Versions[:1]}
	for name, tc := range map[string]struct {
		raw    []byte
		keys   *config.BackupKeys
		reason error
		want   string
	}{
		"no public keys":              {good, nil, archive.ErrNoPublicKeys, "there are no public keys to verify its signature with: give --public-keys"},
		"no versions of keys":         {good, &config.BackupKeys{Key: backupKey}, archive.ErrNoPublicKeys, "there are no public keys"},
		"keys of another deployment":  {good, otherKeys, archive.ErrOtherKey, "another key signed it, not sn-backup-cluster.notes.other"},
		"keys older than the backup":  {good, oldKeys, archive.ErrOtherKey, "version 2 of " + backupKey + " signed it, which is not among the public keys: get newer public keys"},
		"no signature":                {replaced(signature, "[]"), trusted(), archive.ErrNotSigned, "it is not signed"},
		"an empty signature":          {replaced(envelope.Signatures[0].Sig, ""), trusted(), archive.ErrNotSigned, "it is not signed"},
		"two signatures":              {replaced(signature, signature[:len(signature)-1]+","+signature[1:]), trusted(), archive.ErrDamaged, "it has 2 signatures, and a backup writes one"},
		"another key, named as ours":  {sealed(t, newSigner(7, 2), b.manifest), trusted(), archive.ErrOtherKey, "its signature is not one of version 2 of " + backupKey},
		"an ended version":            {sealed(t, newSigner(1, 1), b.manifest), trusted(), archive.ErrEndedVersion, "version 1 of " + backupKey + " signed it, and a Compromise ended that version at 2026-11-30T12:42:00Z"},
		"an ended one, named as ours": {sealed(t, newSigner(1, 2), b.manifest), trusted(), archive.ErrOtherKey, "its signature is not one of version 2"},
		"a short signature":           {replaced(envelope.Signatures[0].Sig, "AAAA"), trusted(), archive.ErrOtherKey, "its signature is not one of version 2"},
		"keyid without version":       {replaced(backupKey+":v2", backupKey), trusted(), archive.ErrDamaged, "keyid that is not of the form KEY:vVERSION"},
		"keyid with a word":           {replaced(backupKey+":v2", backupKey+":vtwo"), trusted(), archive.ErrDamaged, "keyid that is not of the form KEY:vVERSION"},
		"keyid of another version":    {replaced(backupKey+":v2", backupKey+":v1"), trusted(), archive.ErrOtherKey, "its signature is not one of version 1"},
		"another payload":             {replaced(`"payload":"`, `"payload":"AAAA`), trusted(), archive.ErrOtherKey, "these are not the public keys that were saved when it was made, or it was edited: give those public keys with --public-keys"},
		"another payload type":        {replaced("manifest+json", "manifest+text"), trusted(), archive.ErrOtherKey, "these are not the public keys that were saved when it was made, or it was edited: give those public keys with --public-keys"},
		"a signed other document":     {resigned(t, "text/plain", []byte("hello")), trusted(), archive.ErrDamaged, "its payloadType is not " + archive.PayloadType},
		"newer format":                {payload(`"format":1,`, `"format":2,"novelty":[1],`), trusted(), archive.ErrNewerFormat, "it has format 2, and this program reads up to format 1: use the release of securenotes that wrote it, or a later one"},
		"unknown field":               {payload(`"schema":9`, `"schema":9,"x":1`), trusted(), archive.ErrDamaged, "unknown object member name"},
		"duplicate field":             {payload(`"schema":9`, `"schema":9,"schema":8`), trusted(), archive.ErrDamaged, "duplicate object member name"},
		"spaces":                      {payload(`"schema":9`, `"schema": 9`), trusted(), archive.ErrDamaged, "would be written differently"},
		"sequence 0":                  {payload(`"sequence":4`, `"sequence":0`), trusted(), archive.ErrDamaged, "sequence is 0"},
		"a control character":         {payload(`"namespace":"notes"`, `"namespace":"\u001b[2J"`), trusted(), archive.ErrDamaged, "deployment.namespace must have 1 to 512 bytes of printable text"},
		"a text that is reversed":     {payload(`"name":"example"`, "\"name\":\"\u202eexample\""), trusted(), archive.ErrDamaged, "deployment.name must have 1 to 512 bytes of printable text"},
		"an invisible character":      {payload(`["pepper-a"]`, "[\"pepper-a\u200b\"]"), trusted(), archive.ErrDamaged, "an id in peppers must have 1 to 512 bytes of printable text"},
		"a local time":                {payload(`"startedAt":"2026-11-30T13:42:00Z"`, `"startedAt":"2026-11-30T13:42:00+01:00"`), trusted(), archive.ErrDamaged, "must be in UTC"},
		"a fraction of a second":      {payload(`"startedAt":"2026-11-30T13:42:00Z"`, `"startedAt":"2026-11-30T13:42:00.5Z"`), trusted(), archive.ErrDamaged, "must be in UTC"},
		"negative rows":               {payload(`"users":2`, `"users":-2`), trusted(), archive.ErrDamaged, "rows must have names of tables, and counts"},
		"no versions":                 {payload(`"oldestVersion":3`, `"oldestVersion":2`), trusted(), archive.ErrDamaged, "masterKey.versions must begin with oldestVersion"},
		"peppers out of order":        {payload(`["pepper-a"]`, `["pepper-b","pepper-a"]`), trusted(), archive.ErrDamaged, "peppers must be in ascending order"},
		"a pepper twice":              {payload(`["pepper-a"]`, `["pepper-a","pepper-a"]`), trusted(), archive.ErrDamaged, "peppers must be in ascending order"},
		"a digest in capitals":        {payload(b.manifest.Archive.SHA256, strings.ToUpper(b.manifest.Archive.SHA256)), trusted(), archive.ErrDamaged, "archive: sha256 must be 64 hexadecimal digits"},
		"size 0":                      {payload(fmt.Sprintf(`"size":%d`, b.manifest.Archive.Size), `"size":0`), trusted(), archive.ErrDamaged, "archive: sizes must be positive"},
		"not an object":               {resigned(t, archive.PayloadType, []byte("[]")), trusted(), archive.ErrDamaged, "the manifest is not as a backup writes it"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := archive.ParseEnvelope(archive.ManifestName(b.id), tc.raw)
			if err != nil {
				t.Fatal(err)
			}
			_, err = e.Verify(tc.keys, "")
			refused(t, err, tc.reason, tc.want)
		})
	}
	for name, raw := range map[string][]byte{
		"empty":                 nil,
		"not JSON":              []byte("x"),
		"truncated":             good[:len(good)-1],
		"text after it":         append(bytes.Clone(good), '}'),
		"a list":                []byte("[]"),
		"payload a list":        replaced(`"payload":"`, `"payload":[],"x":"`),
		"payload twice":         replaced(`"payload":"`, `"payload":"","payload":"`),
		"not base64":            replaced(`"payload":"`, `"payload":"!`),
		"signature not base64":  replaced(envelope.Signatures[0].Sig, "!"),
		"signatures null":       replaced(signature, "null"),
		"an unknown field":      replaced(`{"payloadType"`, `{"future":{"x":1},"payloadType"`),
		"spaces":                replaced(`,"`, `, "`),
		"a line feed after it":  append(bytes.Clone(good), '\n'),
		"a line feed in base64": replaced(`"payload":"`, `"payload":"\n`),
		"URL-safe base64":       []byte(strings.NewReplacer(`+`, "-", archive.PayloadType, archive.PayloadType).Replace(string(resigned(t, archive.PayloadType, []byte("\xfb\xef\xbe"))))),
		"another escape":        replaced("vnd.securenotes", `vnd\u002esecurenotes`),
		"invalid UTF-8":         replaced(`{"payload`, "{\"\xff\":1,\"payload"),
		"more than 64 KiB":      append(bytes.Repeat([]byte(" "), 64<<10), good...),
		"deeply nested":         []byte(strings.Repeat("[", 60_000)),
	} {
		t.Run("parse/"+name, func(t *testing.T) {
			_, err := archive.ParseEnvelope(archive.ManifestName(b.id), raw)
			refused(t, err, archive.ErrDamaged, "the manifest of a backup")
		})
	}
	t.Run("renamed", func(t *testing.T) {
		other := archive.ManifestName(archive.NewID(started))
		e, err := archive.ParseEnvelope(other, good)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Verify(trusted(), "")
		refused(t, err, archive.ErrDamaged, other+": it is the manifest of the backup "+b.id+": rename it to "+name)
	})
}

// TestEndedVersionIsAcceptedByDigest checks that only the SHA-256 of the manifest is accepted. The
// refusal must not print it, because it may be that of a forged backup.
func TestEndedVersionIsAcceptedByDigest(t *testing.T) {
	b := newBackup(t)
	e, err := archive.ParseEnvelope(archive.ManifestName(b.id), sealed(t, newSigner(1, 1), b.manifest))
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Verify(trusted(), b.manifest.Archive.SHA256)
	refused(t, err, archive.ErrEndedVersion, "give --accept-sha256 with the SHA-256 in the log of the Job that made this one")
	if strings.Contains(err.Error(), e.SHA256()) {
		t.Errorf("the refusal has the SHA-256 of the manifest: %v", err)
	}
	if m, err := e.Verify(trusted(), e.SHA256()); err != nil || m.ID != b.id {
		t.Errorf("with its SHA-256: got %v, %v", m, err)
	}
	// The SHA-256 replaces nothing but the age of the version.
	other, err := archive.ParseEnvelope(archive.ManifestName(b.id), sealed(t, newSigner(7, 1), b.manifest))
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Verify(trusted(), other.SHA256())
	refused(t, err, archive.ErrOtherKey, "its signature is not one of version 1")
}

// TestSealRefuses checks that no manifest is signed that would be refused.
func TestSealRefuses(t *testing.T) {
	b := newBackup(t)
	broken := b.manifest
	broken.Sequence = 0
	_, err := archive.Seal(t.Context(), current(), backupKey, broken)
	refused(t, err, archive.ErrNotArchived, "sequence is 0")
	large := b.manifest
	large.Peppers = nil
	for i := range 128 {
		large.Peppers = append(large.Peppers, fmt.Sprintf("%03d", i)+strings.Repeat("x", 500))
	}
	_, err = archive.Seal(t.Context(), current(), backupKey, large)
	refused(t, err, archive.ErrNotArchived, "and the limit is 65536")
	for name, answer := range map[string]string{"no version": "vault:AAAA", "not base64": "vault:v1:!!!", "another algorithm": "vault:v1:" + base64.StdEncoding.EncodeToString(make([]byte, 71)), "empty": ""} {
		if _, err := archive.Seal(t.Context(), answers(answer), backupKey, b.manifest); err == nil || !strings.Contains(err.Error(), "check that the key "+backupKey+" is an Ed25519 key") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if _, err := archive.Seal(t.Context(), denied{}, backupKey, b.manifest); !errors.Is(err, errDenied) {
		t.Errorf("got error %v, want %v", err, errDenied)
	}
}
