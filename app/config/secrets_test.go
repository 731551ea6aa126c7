package config

import (
	"encoding/json"
	"testing"
)

// TestSecretsAreMadeAnew checks that each deployment gets secrets of its own.
func TestSecretsAreMadeAnew(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		keys, err := NewSessionKeys()
		if err != nil {
			t.Fatal(err)
		}
		peppers, err := NewPepper().Values()
		if err != nil {
			t.Fatal(err)
		}
		secrets := []string{keys.JWKS}
		for _, pepper := range peppers {
			secrets = append(secrets, string(pepper))
		}
		for _, secret := range secrets {
			if seen[secret] || len(secret) < 32 {
				t.Errorf("a secret of %d bytes, made before: %v", len(secret), seen[secret])
			}
			seen[secret] = true
		}
	}
}

// TestDigests checks that a digest does not change on the way through Vault, which reorders fields,
// and that it covers every value. The digests are pinned because later releases compare theirs with
// them.
func TestDigests(t *testing.T) {
	pepper := &Pepper{CurrentID: "b", Peppers: map[string]string{"b": "Qg==", "a": "QQ=="}}
	keys := &SessionKeys{JWKS: `{"keys":[]}`, SigningKeyID: "s", EncryptionKeyID: "e"}
	for name, tc := range map[string]struct {
		digest func() (string, error)
		want   string
	}{
		"pepper":       {digest: pepper.Digest, want: "47bca15a71dec213cf9a0b2a116cb216ac5f86cccd2eaaf75ad23cedf6907348"},
		"session keys": {digest: keys.Digest, want: "e29a8fbc905c9e62a5863af947f0908bdec26960a91121915f04d75e0755d150"},
	} {
		if got, err := tc.digest(); err != nil || got != tc.want || !IsDigest(got) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	again := &Pepper{}
	if err := json.Unmarshal([]byte(`{"peppers":{"b":"Qg==","a":"QQ=="},"currentID":"b"}`), again); err != nil {
		t.Fatal(err)
	}
	first, _ := pepper.Digest()
	if second, err := again.Digest(); err != nil || second != first {
		t.Errorf("read back: %s, %v; want %s", second, err, first)
	}
	for name, change := range map[string]func(){
		"id":    func() { again.CurrentID = "a" },
		"value": func() { again.CurrentID = "b"; again.Peppers["a"] = "Qg==" },
	} {
		change()
		if other, err := again.Digest(); err != nil || other == first {
			t.Errorf("another %s has the same digest: %v", name, err)
		}
	}
}
