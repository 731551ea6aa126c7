package audit

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// FuzzEncode checks that a line equals the output of encoding/json, whatever a request contains.
// Verify parses it with encoding/json.
func FuzzEncode(f *testing.F) {
	f.Add("login", "0123", "u1", "198.51.100.7", 401, uint64(7), int64(1_700_000_000_000_000_001))
	f.Add("note.read", "", "\x00\"\\<&>\u2028é\xff", "2001:db8::1", 0, uint64(0), int64(0))
	f.Fuzz(func(t *testing.T, action, object, user, address string, number int, sequence uint64, nanos int64) {
		at := time.Unix(0, nanos).UTC()
		for _, r := range []Record{
			{Version: version, Chain: "c", Sequence: sequence, Previous: genesis, Time: at, Event: Event{Action: action, Object: object, User: user, Address: address, Status: number}},
			{Version: number, Chain: action, Sequence: sequence, Previous: object, Time: at, Covers: sequence, Signature: user, Event: Event{
				Action: action, Outcome: user, Status: number, User: user, Username: object, Factor: action, Object: object, Address: address,
				RequestID: user, Notes: number, Bytes: number, Refused: number, From: at, Until: at, Deployment: action,
			}},
		} {
			want, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(r.appendJSON(nil))); diff != "" {
				t.Errorf("-encoding/json +ours:\n%s", diff)
			}
		}
	})
}
