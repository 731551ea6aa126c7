package envelope

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestKeySchedulesAreWiped: what is left of a key, whose first bytes are those of the key itself (FIPS 197, section 5.2),
// goes with its last use, and not before.
func TestKeySchedulesAreWiped(t *testing.T) {
	raw := []byte("0123456789abcdefghijklmnopqrstuv")
	key, err := newOwnerKey(homeRef, bytes.Clone(raw))
	if err != nil {
		t.Fatal(err)
	}
	schedule := memoryOf(key.aead)
	if !holdsKey(schedule, raw) {
		t.Fatalf("the cipher's schedule is not in the %d bytes that are wiped", len(schedule))
	}
	runtime.GC()
	runtime.GC()
	if !holdsKey(schedule, raw) {
		t.Fatal("the key in use was wiped")
	}
	runtime.KeepAlive(key) // its last use
	for deadline := time.Now().Add(10 * time.Second); holdsKey(schedule, raw); {
		if time.Now().After(deadline) {
			t.Fatal("the key that nobody uses any more is not wiped")
		}
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
}

// TestBlocksAreWiped: GCM has a copy of the schedule, so that the one that it was made of is to be wiped, and can be.
func TestBlocksAreWiped(t *testing.T) {
	raw := []byte("0123456789abcdefghijklmnopqrstuv")
	block, err := aes.NewCipher(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !holdsKey(memoryOf(block), raw) {
		t.Fatal("the block's schedule is not in the memory that is wiped")
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	clear(memoryOf(block))
	if holdsKey(memoryOf(block), raw) {
		t.Fatal("the block is not wiped")
	}
	key, err := newOwnerKey(homeRef, raw)
	if err != nil {
		t.Fatal(err)
	}
	sealed := (&OwnerKey{ref: homeRef, aead: aead}).Seal(home, []byte("a note"))
	if content, err := key.Open(home, sealed); err != nil || string(content) != "a note" {
		t.Errorf("sealed with the block wiped: %q, %v", content, err)
	}
}

// holdsKey looks for the key in a schedule, whose words are in the machine's order of bytes, or reversed.
func holdsKey(schedule, raw []byte) bool {
	words := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i += 4 {
		words = binary.NativeEndian.AppendUint32(words, binary.BigEndian.Uint32(raw[i:]))
	}
	return bytes.Contains(schedule, raw) || bytes.Contains(schedule, words)
}

// collecting is a cipher during whose work garbage is collected, again and again, until the key that works with it is
// wiped, if it can be.
type collecting struct{ wiped *atomic.Bool }

func (c collecting) work() []byte {
	for range 20 {
		runtime.GC()
		time.Sleep(time.Millisecond)
		if c.wiped.Load() {
			panic("wiped while it works")
		}
	}
	return nil
}

func (c collecting) NonceSize() int                         { return 0 }
func (c collecting) Overhead() int                          { return 0 }
func (c collecting) Seal(_, _, _, _ []byte) []byte          { return c.work() }
func (c collecting) Open(_, _, _, _ []byte) ([]byte, error) { return c.work(), nil }

// TestKeyInUseIsNotWiped: also one that nobody holds but the call that works with it.
func TestKeyInUseIsNotWiped(t *testing.T) {
	key := func() *OwnerKey {
		wiped := new(atomic.Bool)
		k := &OwnerKey{ref: homeRef, aead: collecting{wiped}}
		runtime.AddCleanup(k, func(wiped *atomic.Bool) { wiped.Store(true) }, wiped)
		return k
	}
	key().Seal(home, []byte("a note"))
	sealed := append([]byte{formatV1}, make([]byte, Overhead)...)
	if _, err := key().Open(home, sealed); err != nil {
		t.Error(err)
	}
}

// TestMemoryOf: only what is in one piece is overwritten.
func TestMemoryOf(t *testing.T) {
	type flat struct {
		A [4]uint32
		B struct{ C byte }
	}
	type pointing struct {
		A [4]uint32
		B *byte
	}
	type wrapper struct{ *flat }
	for name, tc := range map[string]struct {
		value any
		size  int
	}{
		"flat":               {value: &flat{}, size: 20},
		"in a wrapper":       {value: wrapper{&flat{}}, size: 20},
		"with a pointer":     {value: &pointing{}},
		"no pointer at all":  {value: flat{}},
		"nil":                {value: (*flat)(nil)},
		"an untyped nothing": {},
		"a string":           {value: strings.Repeat("n", 3)},
	} {
		if got := memoryOf(tc.value); len(got) != tc.size {
			t.Errorf("%s: %d bytes, want %d", name, len(got), tc.size)
		}
	}
}
