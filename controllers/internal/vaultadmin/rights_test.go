package vaultadmin

import (
	"os"
	"testing"
)

// TestGrantedRightsAreRead: every combination of rights is read back from the policy that grants
// it.
func TestGrantedRightsAreRead(t *testing.T) {
	for _, trim := range []bool{false, true} {
		for _, shred := range []bool{false, true} {
			for _, mount := range []string{"", "database", "teams/a-database"} {
				setup := Setup{
					ClusterID: "cluster", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "team/secret",
					AllowTrim: trim, AllowShred: shred, DatabaseMount: mount,
				}
				want := Rights{Trim: trim, Shred: shred, Database: mount != ""}
				if got, gotMount := grantedBy(setup.operatorRules()); got != want || gotMount != mount {
					t.Errorf("%+v: %+v at %q", want, got, gotMount)
				}
			}
		}
	}
	if got, mount := grantedBy(""); got != (Rights{}) || mount != "" {
		t.Errorf("no policy grants %+v at %q", got, mount)
	}
}

// TestPreviousReleaseGrantsNoShred: the previous release gave every operator the right to delete
// keys; that nobody asked for it, set-up of this release takes it away.
func TestPreviousReleaseGrantsNoShred(t *testing.T) {
	rules, err := os.ReadFile("../../cmd/operator/testdata/previous-policy.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if got, mount := grantedBy(string(rules)); got != (Rights{}) || mount != "" {
		t.Errorf("it grants %+v at %q", got, mount)
	}
}
