package envelope

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// home is the place of the value in these tests.
var home = Place{Kind: "notes", Row: "row-1", Field: "content", Revision: 3}

func testKey(t testing.TB, ref KeyRef) *OwnerKey {
	t.Helper()
	key, err := newOwnerKey(ref, bytes.Repeat([]byte{7}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var homeRef = KeyRef{Deployment: "d1", Owner: "o1", ID: "k1"}

func TestSealedValueOpensOnlyInItsPlace(t *testing.T) {
	sealed := testKey(t, homeRef).Seal(home, []byte("a note"))
	if opened, err := testKey(t, homeRef).Open(home, sealed); err != nil || string(opened) != "a note" {
		t.Fatalf("in its place: %q, %v", opened, err)
	}
	for name, tc := range map[string]struct {
		ref   KeyRef
		place Place
	}{
		"another deployment":                {ref: KeyRef{"d2", "o1", "k1"}, place: home},
		"another owner":                     {ref: KeyRef{"d1", "o2", "k1"}, place: home},
		"another key id":                    {ref: KeyRef{"d1", "o1", "k2"}, place: home},
		"another kind":                      {ref: homeRef, place: Place{"totp", "row-1", "content", 3}},
		"another row":                       {ref: homeRef, place: Place{"notes", "row-2", "content", 3}},
		"another field":                     {ref: homeRef, place: Place{"notes", "row-1", "title", 3}},
		"another revision":                  {ref: homeRef, place: Place{"notes", "row-1", "content", 4}},
		"fields whose joined text is equal": {ref: homeRef, place: Place{"notes", "row-1c", "ontent", 3}},
	} {
		t.Run(name, func(t *testing.T) {
			// The same key bytes: only the associated data differs.
			if _, err := testKey(t, tc.ref).Open(tc.place, sealed); !errors.Is(err, ErrNotAuthentic) {
				t.Errorf("error %v, want ErrNotAuthentic", err)
			}
		})
	}
}

func TestChangedSealedValueDoesNotOpen(t *testing.T) {
	key := testKey(t, homeRef)
	sealed := key.Seal(home, []byte("a note"))
	for bit := range len(sealed) * 8 {
		changed := bytes.Clone(sealed)
		changed[bit/8] ^= 1 << (bit % 8)
		if _, err := key.Open(home, changed); !errors.Is(err, ErrNotAuthentic) {
			t.Fatalf("bit %d changed: %v", bit, err)
		}
	}
	for length := range len(sealed) {
		if _, err := key.Open(home, sealed[:length]); !errors.Is(err, ErrNotAuthentic) {
			t.Fatalf("cut to %d bytes: %v", length, err)
		}
	}
	if _, err := key.Open(home, append(bytes.Clone(sealed), 0)); !errors.Is(err, ErrNotAuthentic) {
		t.Fatalf("a byte longer: %v", err)
	}
}

func TestSealingTwiceGivesDifferentBytes(t *testing.T) {
	key := testKey(t, homeRef)
	if bytes.Equal(key.Seal(home, []byte("a note")), key.Seal(home, []byte("a note"))) {
		t.Error("the nonce was used twice")
	}
}

// TestVectors pins the format: a value that an earlier release sealed must always open. The vectors
// come from another implementation of AES-256-GCM (Python cryptography 38) with the key 07…07 and
// the nonce 00…0b.
func TestVectors(t *testing.T) {
	key := testKey(t, homeRef)
	for name, tc := range vectors {
		t.Run(name, func(t *testing.T) {
			sealed, err := hex.DecodeString(tc.sealed)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := key.Open(tc.place, sealed)
			if err != nil || string(opened) != tc.content {
				t.Errorf("opened %q, %v; want %q", opened, err, tc.content)
			}
		})
	}
}

// TestContextVector pins the derivation context of owner keys: a key that an earlier release
// wrapped must always unwrap.
func TestContextVector(t *testing.T) {
	want := "\x00\x00\x00\x18securenotes/owner-key/v1" + "\x00\x00\x00\x02d1" + "\x00\x00\x00\x02o1" + "\x00\x00\x00\x02k1"
	if got := string(homeRef.context()); got != want {
		t.Errorf("context %q, want %q", got, want)
	}
}

func TestEncodeIsInjective(t *testing.T) {
	seen := map[string][]string{}
	for _, fields := range [][]string{{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"ab", ""}, {"a", "", "b"}, {"\x00\x00\x00\x01a"}} {
		encoded := string(encode(fields...))
		if other, ok := seen[encoded]; ok {
			t.Errorf("%q and %q encode alike", fields, other)
		}
		seen[encoded] = fields
	}
}

func TestWrappedVersion(t *testing.T) {
	for text, want := range map[string]int{
		"vault:v1:YQ==": 1, "vault:v12:YWJj": 12, "local:v3:YQ==": 3,
		"": 0, "vault": 0, "vault:v1": 0, "vault:v1:": 0, "vault:v0:YQ==": 0, "vault:v01:YQ==": 0, "vault:v+1:YQ==": 0,
		"vault:v-1:YQ==": 0, "vault:1:YQ==": 0, "other:v1:YQ==": 0, "vault:v1:?": 0, "vault:v99999999999:YQ==": 0,
		"vault:v1:" + strings.Repeat("A", 600): 0, "vault:v1:YQ==\n": 0, "vault:v1:YR==": 0,
	} {
		got, err := Wrapped(text).Version()
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: version %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestWrappedKeyIsBoundToItsPlace(t *testing.T) { eachProvider(t, testWrappedKeyIsBoundToItsPlace) }

func testWrappedKeyIsBoundToItsPlace(t *testing.T, p rotatable) {
	ctx := context.Background()
	keyring := NewKeyring("d1", p)
	stored, err := keyring.Generate(ctx, "o1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Unwrap(ctx, stored); err != nil {
		t.Fatalf("in its place: %v", err)
	}
	for name, other := range map[string]struct {
		deployment string
		stored     StoredKey
	}{
		"another deployment": {deployment: "d2", stored: stored},
		"another owner":      {deployment: "d1", stored: StoredKey{"o2", stored.ID, stored.Wrapped}},
		"another key id":     {deployment: "d1", stored: StoredKey{"o1", NewID(), stored.Wrapped}},
		"another version":    {deployment: "d1", stored: StoredKey{"o1", stored.ID, Wrapped(strings.Replace(string(stored.Wrapped), ":v1:", ":v2:", 1))}},
		"changed":            {deployment: "d1", stored: StoredKey{"o1", stored.ID, stored.Wrapped[:len(stored.Wrapped)-4] + "AAA="}},
	} {
		t.Run(name, func(t *testing.T) {
			keyring := NewKeyring(other.deployment, p)
			if _, err := keyring.Unwrap(ctx, other.stored); !errors.Is(err, ErrRefused) {
				t.Errorf("unwrap: %v, want ErrRefused", err)
			}
			results, err := keyring.Rewrap(ctx, []StoredKey{other.stored})
			if err != nil || !errors.Is(results[0].Err, ErrRefused) {
				t.Errorf("rewrap: %v, %v, want ErrRefused for the item", results, err)
			}
		})
	}
}

// TestChangedWrappingDoesNotUnwrap changes each bit of a wrapped key, and cuts it at each length.
func TestChangedWrappingDoesNotUnwrap(t *testing.T) {
	eachProvider(t, testChangedWrappingDoesNotUnwrap)
}

func testChangedWrappingDoesNotUnwrap(t *testing.T, p rotatable) {
	ctx := context.Background()
	keyring := NewKeyring("d1", p)
	stored, err := keyring.Generate(ctx, "o1")
	if err != nil {
		t.Fatal(err)
	}
	head := string(stored.Wrapped[:strings.LastIndexByte(string(stored.Wrapped), ':')+1])
	raw, err := base64.StdEncoding.DecodeString(string(stored.Wrapped[len(head):]))
	if err != nil || len(raw) == 0 {
		t.Fatalf("%q: %v", stored.Wrapped, err)
	}
	changed := []StoredKey{stored} // Vault answers for each item as long as one of them is valid
	add := func(text string) { changed = append(changed, StoredKey{stored.Owner, stored.ID, Wrapped(text)}) }
	for bit := range len(raw) * 8 {
		other := bytes.Clone(raw)
		other[bit/8] ^= 1 << (bit % 8)
		add(head + base64.StdEncoding.EncodeToString(other))
	}
	for length := range len(raw) {
		add(head + base64.StdEncoding.EncodeToString(raw[:length]))
	}
	for length := range len(stored.Wrapped) {
		add(string(stored.Wrapped[:length]))
	}
	keys, err := keyring.UnwrapAll(ctx, changed)
	if err != nil {
		t.Fatal(err)
	}
	if keys[0].Err != nil {
		t.Errorf("the unchanged one: %v", keys[0].Err)
	}
	for i, key := range keys[1:] {
		if !errors.Is(key.Err, ErrRefused) {
			t.Errorf("%q: %v, want ErrRefused", changed[i+1].Wrapped, key.Err)
		}
	}
}

func TestRewrapKeepsTheKey(t *testing.T) { eachProvider(t, testRewrapKeepsTheKey) }

func testRewrapKeepsTheKey(t *testing.T, p rotatable) {
	ctx := context.Background()
	keyring := NewKeyring("d1", p)
	stored, err := keyring.Generate(ctx, "o1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyring.Unwrap(ctx, stored)
	if err != nil {
		t.Fatal(err)
	}
	sealed := key.Seal(home, []byte("a note"))
	p.rotate(t)
	results, err := keyring.Rewrap(ctx, []StoredKey{stored, {Owner: "o2", ID: stored.ID, Wrapped: stored.Wrapped}})
	if err != nil || results[0].Err != nil {
		t.Fatalf("rewrap: %v, %v", results, err)
	}
	if !errors.Is(results[1].Err, ErrRefused) {
		t.Errorf("one item's failure must be its own: %v", results[1].Err)
	}
	old := stored
	stored.Wrapped = results[0].Wrapped
	if version, err := stored.Wrapped.Version(); err != nil || version != 2 {
		t.Fatalf("version %d, %v, want 2", version, err)
	}
	p.retire(t, 2)
	if _, err := keyring.Unwrap(ctx, old); !errors.Is(err, ErrRefused) {
		t.Errorf("the retired version unwraps: %v", err)
	}
	again, err := keyring.Unwrap(ctx, stored)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := again.Open(home, sealed); err != nil || string(opened) != "a note" {
		t.Errorf("opened %q, %v", opened, err)
	}
}

// TestEachFailureIsItsOwn checks that each item has its own error, also if all items fail, which
// Vault answers in another way.
func TestEachFailureIsItsOwn(t *testing.T) { eachProvider(t, testEachFailureIsItsOwn) }

func testEachFailureIsItsOwn(t *testing.T, p rotatable) {
	ctx := context.Background()
	keyring := NewKeyring("d1", p)
	stored, err := keyring.Generate(ctx, "o1")
	if err != nil {
		t.Fatal(err)
	}
	moved := []StoredKey{{Owner: "o2", ID: stored.ID, Wrapped: stored.Wrapped}, {Owner: "o3", ID: stored.ID, Wrapped: stored.Wrapped}}
	for _, batch := range [][]StoredKey{moved, moved[:1]} {
		keys, err := keyring.UnwrapAll(ctx, batch)
		if err != nil {
			t.Fatalf("unwrap %d: %v", len(batch), err)
		}
		for i, key := range keys {
			if !errors.Is(key.Err, ErrRefused) {
				t.Errorf("unwrap %d of %d: %v, want ErrRefused", i, len(batch), key.Err)
			}
		}
		results, err := keyring.Rewrap(ctx, batch)
		if err != nil {
			t.Fatalf("rewrap %d: %v", len(batch), err)
		}
		for i, result := range results {
			if !errors.Is(result.Err, ErrRefused) {
				t.Errorf("rewrap %d of %d: %v, want ErrRefused", i, len(batch), result.Err)
			}
		}
	}
}

// rotatable is a provider whose master key a test can rotate and retire, as the operator does.
type rotatable interface {
	KeyProvider
	rotate(t testing.TB)
	retire(t testing.TB, least int)
}

type rotatableLocal struct{ *Local }

func newRotatableLocal(t testing.TB) rotatable {
	t.Helper()
	local, err := OpenLocal(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	return rotatableLocal{local}
}

func (l rotatableLocal) rotate(testing.TB) {
	l.file.Versions = append(l.file.Versions, newRawKey())
}

func (l rotatableLocal) retire(_ testing.TB, least int) {
	l.file.MinDecryptionVersion = least
}

// FuzzOpen checks that only the one genuine value opens. It is the same in every fuzzing process.
func FuzzOpen(f *testing.F) {
	key, vector := testKey(f, homeRef), vectors["content"]
	genuine, err := hex.DecodeString(vector.sealed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(genuine)
	f.Add([]byte{})
	f.Add([]byte{formatV1})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		content, err := key.Open(vector.place, sealed)
		if (err == nil) != bytes.Equal(sealed, genuine) {
			t.Errorf("opened %q, %v", content, err)
		}
	})
}

func FuzzWrappedVersion(f *testing.F) {
	f.Add("vault:v1:YQ==")
	f.Add("local:v2:")
	f.Fuzz(func(t *testing.T, text string) {
		version, err := Wrapped(text).Version()
		if (err == nil) != (version > 0) {
			t.Errorf("version %d with error %v", version, err)
		}
	})
}

// FuzzUnwrap checks that the provider returns the key that it wrapped, or an error, whatever a row
// contains.
func FuzzUnwrap(f *testing.F) {
	keyring := NewKeyring("d1", vectorLocal())
	f.Add(vectorWrapped)
	f.Add("local:v1:")
	f.Add("vault:v1:YQ==")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := keyring.Unwrap(context.Background(), StoredKey{homeRef.Owner, homeRef.ID, Wrapped(text)})
		if (err == nil) != (text == vectorWrapped) || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// vectorLocal returns a local provider with the master key 03…03.
func vectorLocal() *Local {
	return &Local{file: localFile{Versions: [][]byte{bytes.Repeat([]byte{3}, keySize)}}}
}

// vectorWrapped is the key of testKey, wrapped by vectorLocal.
const vectorWrapped = "local:v1:DUl2dd15CT3DlVcls6GSsYeeU/Q0ih0x2OFm2FlSLwZRtkZKb9yj1BVeBOrmKXJD3VVA+qIeJvwHCHzE"

// TestWrappedVector pins the format of the local provider.
func TestWrappedVector(t *testing.T) {
	key, err := NewKeyring("d1", vectorLocal()).Unwrap(context.Background(), StoredKey{homeRef.Owner, homeRef.ID, vectorWrapped})
	if err != nil {
		t.Fatal(err)
	}
	if content, err := testKey(t, homeRef).Open(home, key.Seal(home, []byte("a note"))); err != nil || string(content) != "a note" {
		t.Errorf("it is another key: %q, %v", content, err)
	}
}

// FuzzParseBatch checks that there is one result for each item, or an error, whatever Vault
// answers.
func FuzzParseBatch(f *testing.F) {
	f.Add([]byte(`{"data":{"batch_results":[{"ciphertext":"vault:v1:YQ=="}]}}`), 1)
	f.Add([]byte(`{"data":{"batch_results":[{"error":"no"},{"plaintext":"YQ=="},null]}}`), 3)
	f.Add([]byte(`{"data":{"batch_results":[{"plaintext":1}]}}`), 1)
	f.Fuzz(func(t *testing.T, text []byte, want int) {
		answers, err := parseBatch(text, want)
		if err == nil && len(answers) != want {
			t.Fatalf("%d answers, want %d", len(answers), want)
		}
		for _, answer := range answers {
			if given := len(answer.Plaintext) > 0 || answer.Ciphertext != ""; given == false && answer.Failure == "" || len(answer.Failure) > maxFailure {
				t.Errorf("answer %+v", answer)
			}
		}
	})
}

// FuzzLocalKeyFile checks that any key file is either usable or rejected.
func FuzzLocalKeyFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "master.key")
	if _, err := OpenLocal(path); err != nil {
		f.Fatal(err)
	}
	genuine, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(genuine)
	f.Add([]byte(`{"versions":[]}`))
	f.Add([]byte(`{"versions":["YQ=="]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		local, err := OpenLocal(path)
		if err != nil {
			return
		}
		if _, err := NewKeyring("d1", local).Generate(context.Background(), "o1"); err != nil {
			t.Errorf("%q was read, and wraps nothing: %v", raw, err)
		}
	})
}

// keepingProvider keeps the slices that it is given and that it returns.
type keepingProvider struct {
	KeyProvider
	raw [][]byte
}

func (p *keepingProvider) Wrap(ctx context.Context, items []RawItem) ([]WrapResult, error) {
	for _, item := range items {
		p.raw = append(p.raw, item.Raw)
	}
	return p.KeyProvider.Wrap(ctx, items)
}

func (p *keepingProvider) Unwrap(ctx context.Context, items []WrappedItem) ([]UnwrapResult, error) {
	results, err := p.KeyProvider.Unwrap(ctx, items)
	for _, result := range results {
		p.raw = append(p.raw, result.Raw)
	}
	return results, err
}

// TestRawKeysAreWiped checks that raw keys are cleared once they are wrapped or have a cipher.
func TestRawKeysAreWiped(t *testing.T) {
	p := &keepingProvider{KeyProvider: newRotatableLocal(t)}
	keyring := NewKeyring("d1", p)
	stored, err := keyring.Generate(context.Background(), "o1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Unwrap(context.Background(), stored); err != nil {
		t.Fatal(err)
	}
	if len(p.raw) != 2 {
		t.Fatalf("%d raw keys were seen", len(p.raw))
	}
	for i, raw := range p.raw {
		if len(raw) != keySize || !bytes.Equal(raw, make([]byte, keySize)) {
			t.Errorf("raw key %d is not wiped", i)
		}
	}
}
