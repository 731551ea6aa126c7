package config

import "testing"

// TestSecretsAreMadeAnew: each deployment's are its own; none is shipped.
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
