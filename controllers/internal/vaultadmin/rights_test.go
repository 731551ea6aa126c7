package vaultadmin

import (
	"os"
	"testing"
)

// TestGrantedRightsAreRead checks that every combination of rights is read back from its policy.
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

// TestPreviousReleaseGrantsNoShred checks that set-up withdraws the right to delete keys, which the
// previous release granted to every operator without a flag.
func TestPreviousReleaseGrantsNoShred(t *testing.T) {
	rules, err := os.ReadFile("../../cmd/operator/testdata/previous-policy.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if got, mount := grantedBy(string(rules)); got != (Rights{}) || mount != "" {
		t.Errorf("it grants %+v at %q", got, mount)
	}
}
