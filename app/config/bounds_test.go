package config

import (
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// schema is the part of an OpenAPI schema that this test reads.
type schema struct {
	Properties map[string]schema `json:"properties"`
	Minimum    *int64            `json:"minimum"`
	Maximum    *int64            `json:"maximum"`
}

// specSchema returns the schema of spec in the CRD of SecureNotes.
func specSchema(t *testing.T) schema {
	t.Helper()
	raw, err := os.ReadFile("../../config/crd/bases/securenotes.dev_securenotes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(raw, &crd); err != nil {
		t.Fatal(err)
	}
	if len(crd.Spec.Versions) != 1 {
		t.Fatalf("the CRD has %d versions, want 1", len(crd.Spec.Versions))
	}
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
}

// TestBoundsAreThoseOfTheCRD checks that the service accepts exactly the numbers that admission
// accepts.
func TestBoundsAreThoseOfTheCRD(t *testing.T) {
	spec := specSchema(t)
	for path, set := range map[string]func(*Config, int64){
		"auth.bcryptCost":                  func(c *Config, n int64) { c.Auth.BcryptCost = int(n) },
		"auth.minPasswordLength":           func(c *Config, n int64) { c.Auth.MinPasswordLength = int(n) },
		"quotas.accounts":                  func(c *Config, n int64) { c.Quotas.Accounts = n },
		"quotas.notes":                     func(c *Config, n int64) { c.Quotas.Notes = n },
		"rateLimits.failedLoginsPerMinute": func(c *Config, n int64) { c.RateLimits.FailedLoginsPerMinute = int(n) },
		"rateLimits.registrationsPerDay":   func(c *Config, n int64) { c.RateLimits.RegistrationsPerDay = int(n) },
		"rateLimits.requestsPerMinute":     func(c *Config, n int64) { c.RateLimits.RequestsPerMinute = int(n) },
	} {
		t.Run(path, func(t *testing.T) {
			group, field, _ := strings.Cut(path, ".")
			bounds := spec.Properties[group].Properties[field]
			if bounds.Minimum == nil || bounds.Maximum == nil {
				t.Fatal("the CRD has no bounds of the field")
			}
			for n, accepted := range map[int64]bool{
				*bounds.Minimum - 1: false, *bounds.Minimum: true, *bounds.Maximum: true, *bounds.Maximum + 1: false,
			} {
				c := valid()
				c.setDefaults()
				set(c, n)
				err := c.Validate()
				if named := err != nil && strings.Contains(err.Error(), path+":"); named == accepted {
					t.Errorf("%d: error %v, want an error: %t", n, err, !accepted)
				}
			}
		})
	}
	most := spec.Properties["keyRotation"].Properties["maxNotesPerSecond"].Maximum
	if most == nil || *most != MaxNotesPerSecond {
		t.Errorf("the CRD's maximum of maxNotesPerSecond differs from %d", MaxNotesPerSecond)
	}
	count := spec.Properties["backup"].Properties["keep"].Properties["count"]
	if count.Minimum == nil || *count.Minimum != 1 || count.Maximum == nil || *count.Maximum != maxKeepCount {
		t.Errorf("the CRD's bounds of backup.keep.count differ from 1 and %d", maxKeepCount)
	}
}
