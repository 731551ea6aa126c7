package keyrotation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// rotation returns a KeyRotation of the SecureNotes notes, with the changes in order.
func rotation(name string, changes ...func(*v1alpha1.KeyRotation)) *v1alpha1.KeyRotation {
	kr := &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name + "-uid")},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}},
	}
	for _, change := range changes {
		change(kr)
	}
	return kr
}

func notes() *v1alpha1.SecureNotes {
	return &v1alpha1.SecureNotes{
		ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "ns", UID: "notes-uid"},
		Spec: v1alpha1.SecureNotesSpec{Database: &v1alpha1.Database{Postgres: &v1alpha1.Postgres{
			VaultCredentials: &v1alpha1.VaultCredentials{},
		}}},
		Status: v1alpha1.SecureNotesStatus{DeploymentID: "notes-uid"},
	}
}

func owned(kr *v1alpha1.KeyRotation) {
	kr.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(notes(), v1alpha1.GroupVersion.WithKind("SecureNotes"))}
}

func guarded(kr *v1alpha1.KeyRotation) { kr.Finalizers = []string{v1alpha1.Finalizer} }

func running(kr *v1alpha1.KeyRotation) {
	owned(kr)
	guarded(kr)
	kr.Status.StartTime = new(metav1.NewTime(time.Unix(1000, 0)))
	kr.Status.Attempt, kr.Status.Shards = 1, 1
}

func urgent(kr *v1alpha1.KeyRotation) { kr.Spec.Reason = v1alpha1.RotationCompromise }

func from(version int64) func(*v1alpha1.KeyRotation) {
	return func(kr *v1alpha1.KeyRotation) { kr.Status.FromVersion = &version }
}

func to(version int64) func(*v1alpha1.KeyRotation) {
	return func(kr *v1alpha1.KeyRotation) { kr.Status.ToVersion = &version }
}

func with(condition string) func(*v1alpha1.KeyRotation) {
	return func(kr *v1alpha1.KeyRotation) {
		setCondition(kr, &kr.Status, condition, metav1.ConditionTrue, "Test", "")
	}
}

func deleting(kr *v1alpha1.KeyRotation) {
	kr.DeletionTimestamp = new(metav1.NewTime(time.Unix(2000, 0)))
}

func key(latest, minEncryption int64) *vaultadmin.KeyState {
	return &vaultadmin.KeyState{Latest: latest, MinEncryption: minEncryption, MinDecryption: 1}
}

// accounts returns the accounts of the API and of the rotation with these UIDs.
func accounts(api, rotation types.UID) []account {
	return []account{
		{name: operand.APIServiceAccount("notes"), uid: api, owned: true}, {name: operand.RotationServiceAccount("notes"), uid: rotation, owned: true},
	}
}

func recorded(api, rotation types.UID) func(*v1alpha1.KeyRotation) {
	return func(kr *v1alpha1.KeyRotation) { setReplacedAccounts(&kr.Status, accounts(api, rotation)) }
}

// using returns the SecureNotes with these session keys.
func using(entry string) *v1alpha1.SecureNotes {
	sn := notes()
	sn.Status.SessionKeys = entry
	return sn
}

func retiredTo(version int64) *v1alpha1.SecureNotes {
	sn := notes()
	sn.Status.MasterKey = &v1alpha1.MasterKeyStatus{MinDecryptionFloor: version}
	return sn
}

// decided is what next decides, with the action as the golden files print it: the name of the step
// that is taken, or the verdict.
type decided struct {
	decision
	action string
}

func decide(o observed) decided {
	s, d := next(o)
	if d.Verdict != steps.Take {
		return decided{d, string(d.Verdict)}
	}
	return decided{d, s.Name}
}

func TestNext(t *testing.T) {
	t.Parallel()
	running12 := []func(*v1alpha1.KeyRotation){running, from(1), to(2)}
	suspended := notes()
	suspended.Spec.Suspend = new(true)
	keyless := notes()
	keyless.Status.DeploymentID = ""
	amountless := notes()
	amountless.Spec.Resources = &v1alpha1.Resources{Limits: map[string]v1alpha1.Quantity{"cpu": "1e1.5"}}
	recreatedParent := notes()
	recreatedParent.UID = "newer-uid"
	anothers := func(kr *v1alpha1.KeyRotation) {
		kr.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "c", UID: "c-uid", Controller: new(true)}}
	}
	deletingParent := notes()
	deletingParent.DeletionTimestamp = new(metav1.Now())

	urgent12 := slices.Clip(append(running12, urgent))
	withAccounts := slices.Clip(append(urgent12, with(v1alpha1.ConditionServiceAccountsRecreated)))
	unrevoked := slices.Clip(append(withAccounts, with(v1alpha1.ConditionBackupKeyReplaced), func(kr *v1alpha1.KeyRotation) {
		setCondition(kr, &kr.Status, v1alpha1.ConditionDatabaseCredentialsReplaced, metav1.ConditionFalse, "Test", "")
	}))
	revoked := slices.Clip(append(withAccounts, with(v1alpha1.ConditionDatabaseCredentialsReplaced)))
	replacing := slices.Clip(append(revoked, func(kr *v1alpha1.KeyRotation) {
		setInitial(kr, &kr.Status)
		kr.Status.ReplacedBackupKeyVersion = new(int64(1))
	}))
	unreplaced := slices.Clip(append(replacing, func(kr *v1alpha1.KeyRotation) {
		setCondition(kr, &kr.Status, v1alpha1.ConditionBackupKeyReplaced, metav1.ConditionFalse, v1alpha1.ReasonSetupMissing, "")
	}))
	recreated := slices.Clip(append(revoked, with(v1alpha1.ConditionBackupKeyReplaced)))
	verified := slices.Clip(append(recreated, with(v1alpha1.ConditionReencrypted), with(v1alpha1.ConditionVerified)))
	ended := slices.Clip([]func(*v1alpha1.KeyRotation){urgent, from(1), to(2), with(v1alpha1.ConditionComplete), markEnded})
	absent := trustedjob.Outcome{Phase: trustedjob.Absent}
	deletingAccounts, strangers := accounts("x", "new"), accounts("new", "new")
	deletingAccounts[0].deleting, strangers[1].owned = true, false

	for name, tc := range map[string]struct {
		o      observed
		want   string
		reason string
	}{
		"without a SecureNotes it waits":                        {o: observed{rotation: rotation("a")}, want: "Wait", reason: v1alpha1.ReasonSecureNotesNotFound},
		"a started one without its SecureNotes fails":           {o: observed{rotation: rotation("a", running)}, want: "Fail", reason: v1alpha1.ReasonSecureNotesNotFound},
		"a deleted one without its SecureNotes is released":     {o: observed{rotation: rotation("a", running, deleting)}, want: "Release"},
		"it is released when its SecureNotes is deleted":        {o: observed{rotation: rotation("a", running), parent: deletingParent}, want: "Release"},
		"a new one is adopted":                                  {o: observed{rotation: rotation("a"), parent: notes()}, want: "Adopt"},
		"it waits for a suspended SecureNotes":                  {o: observed{rotation: rotation("a", running), parent: suspended}, want: "Wait", reason: v1alpha1.ReasonSuspended},
		"without a master key it waits":                         {o: observed{rotation: rotation("a", owned), parent: keyless}, want: "Wait", reason: v1alpha1.ReasonSecureNotesNotReady},
		"with resources that cannot be read it waits":           {o: observed{rotation: rotation("a", running), parent: amountless, key: key(1, 0)}, want: "Wait", reason: v1alpha1.ReasonInvalidResources},
		"it waits for its turn":                                 {o: observed{rotation: rotation("a", owned), parent: notes(), ahead: rotation("b")}, want: "Wait", reason: v1alpha1.ReasonQueued},
		"a started one does not wait for its turn":              {o: observed{rotation: rotation("a", running), parent: notes(), ahead: rotation("b"), key: key(1, 0)}, want: "RecordFrom"},
		"a Compromise supersedes a started one":                 {o: observed{rotation: rotation("a", running12...), parent: notes(), supersededBy: rotation("b", running, urgent)}, want: "Fail", reason: config.ReasonSuperseded},
		"a Compromise supersedes a started one that is deleted": {o: observed{rotation: rotation("a", append(running12, deleting)...), parent: notes(), supersededBy: rotation("b", running, urgent)}, want: "Fail", reason: config.ReasonSuperseded},
		"a Compromise waits for what it supersedes":             {o: observed{rotation: rotation("a", running, urgent), parent: notes(), superseded: rotation("b", running), key: key(1, 0)}, want: "Wait", reason: v1alpha1.ReasonRotatingKey},
		"one of another object is not adopted":                  {o: observed{rotation: rotation("a", anothers), parent: notes()}, want: "Fail", reason: v1alpha1.ReasonNameConflict},
		"one of an earlier SecureNotes is not adopted":          {o: observed{rotation: rotation("a", owned), parent: recreatedParent}, want: "Fail", reason: v1alpha1.ReasonNameConflict},
		"the finalizer comes before the start":                  {o: observed{rotation: rotation("a", owned), parent: notes()}, want: "Guard"},
		"the start is recorded":                                 {o: observed{rotation: rotation("a", owned, guarded), parent: notes()}, want: "Start"},
		"a queued one that is deleted is released":              {o: observed{rotation: rotation("a", owned, guarded, deleting), parent: notes()}, want: "Release"},
		"fromVersion comes before the rotation":                 {o: observed{rotation: rotation("a", running), parent: notes(), key: key(1, 0)}, want: "RecordFrom"},
		"a retry first makes sure of its turn":                  {o: observed{rotation: rotation("a", append(running12, func(kr *v1alpha1.KeyRotation) { kr.Status.Shards = 0 })...), parent: notes()}, want: "RecordTurn"},
		"the key is rotated if its version is fromVersion":      {o: observed{rotation: rotation("a", running, from(1)), parent: notes(), key: key(1, 0)}, want: "RotateKey"},
		"the key is rotated once":                               {o: observed{rotation: rotation("a", running, from(1)), parent: notes(), key: key(2, 0)}, want: "RecordTo"},
		"an extra version by hand is accepted":                  {o: observed{rotation: rotation("a", running, from(1)), parent: notes(), key: key(5, 0)}, want: "RecordTo"},
		"Vault was restored to before it started":               {o: observed{rotation: rotation("a", running, from(3)), parent: notes(), key: key(2, 0)}, want: "Fail", reason: v1alpha1.ReasonKeyRestored},
		"Vault was restored to before its version":              {o: observed{rotation: rotation("a", running, from(1), to(3)), parent: notes(), key: key(2, 0)}, want: "Fail", reason: v1alpha1.ReasonKeyRestored},
		"no version replaces a lost one":                        {o: observed{rotation: rotation("a", running), parent: notes(), key: key(2, 0), newest: 3}, want: "Fail", reason: v1alpha1.ReasonKeyRestored},
		"a Job failed because Vault was restored":               {o: observed{rotation: rotation("a", running12...), parent: notes(), key: key(1, 0), newest: 2, reencrypt: trustedjob.Outcome{Phase: trustedjob.Failed, Reason: "KeyMismatch"}}, want: "Fail", reason: v1alpha1.ReasonKeyRestored},
		"min_encryption_version comes before the Job":           {o: observed{rotation: rotation("a", running12...), parent: notes(), key: key(2, 0), reencrypt: trustedjob.Outcome{Phase: trustedjob.Absent}}, want: "RaiseMinEncryption"},
		"a higher min_encryption_version stays":                 {o: observed{rotation: rotation("a", running12...), parent: notes(), key: key(3, 3), reencrypt: trustedjob.Outcome{Phase: trustedjob.Absent}}, want: "CreateReencrypt"},
		"the Job runs":                                          {o: observed{rotation: rotation("a", running12...), parent: notes(), reencrypt: trustedjob.Outcome{Phase: trustedjob.Running}}, want: "Wait", reason: v1alpha1.ReasonReencrypting},
		"a failed Job has a reason":                             {o: observed{rotation: rotation("a", running12...), parent: notes(), reencrypt: trustedjob.Outcome{Phase: trustedjob.Failed, Reason: "Superseded"}}, want: "Fail", reason: "Superseded"},
		"a failed Job has no reason":                            {o: observed{rotation: rotation("a", running12...), parent: notes(), reencrypt: trustedjob.Outcome{Phase: trustedjob.Failed}}, want: "Fail", reason: v1alpha1.ReasonJobFailed},
		"a foreign Job is not believed":                         {o: observed{rotation: rotation("a", running12...), parent: notes(), reencrypt: trustedjob.Outcome{Phase: trustedjob.Foreign}}, want: "Fail", reason: v1alpha1.ReasonNameConflict},
		"the Job's success is recorded":                         {o: observed{rotation: rotation("a", running12...), parent: notes(), reencrypt: trustedjob.Outcome{Phase: trustedjob.Complete}}, want: "RecordReencrypted"},
		"a Job that was deleted after it completed is not recreated": {o: observed{rotation: rotation("a", append(running12, with(v1alpha1.ConditionReencrypted))...), parent: notes(),
			reencrypt: trustedjob.Outcome{Phase: trustedjob.Absent}, verify: trustedjob.Outcome{Phase: trustedjob.Absent}}, want: "CreateVerify", reason: ""},
		"the record of a deleted Job is cleared": {o: observed{rotation: rotation("a", append(running12, func(kr *v1alpha1.KeyRotation) { kr.Status.ReencryptJobUID = "x" })...),
			parent: notes(), key: key(2, 2), reencrypt: trustedjob.Outcome{Phase: trustedjob.Absent}}, want: "ForgetReencryptJob", reason: ""},
		"the record of a deleted verification is cleared": {o: observed{rotation: rotation("a", append(running12, with(v1alpha1.ConditionReencrypted), func(kr *v1alpha1.KeyRotation) { kr.Status.VerifyJobUID = "x" })...),
			parent: notes(), verify: trustedjob.Outcome{Phase: trustedjob.Absent}}, want: "ForgetVerifyJob", reason: ""},
		"the verification is recorded": {o: observed{rotation: rotation("a", append(running12, with(v1alpha1.ConditionReencrypted))...), parent: notes(),
			verify: trustedjob.Outcome{Phase: trustedjob.Complete}}, want: "RecordVerified", reason: ""},
		"the retirement comes before the end": {o: observed{rotation: rotation("a", append(running12, with(v1alpha1.ConditionReencrypted), with(v1alpha1.ConditionVerified))...), parent: notes()},
			want: "RecordRetirement", reason: ""},
		"a rotation completes": {o: observed{rotation: rotation("a", append(running12, with(v1alpha1.ConditionReencrypted), with(v1alpha1.ConditionVerified))...), parent: notes(), retirementRecorded: true},
			want: "Complete", reason: ""},
		"a Compromise records the accounts first":      {o: observed{rotation: rotation("a", urgent12...), parent: notes(), accounts: accounts("x", "y"), reencrypt: absent}, want: "RecordAccounts"},
		"accounts of a recorded UID are deleted":       {o: observed{rotation: rotation("a", append(urgent12, recorded("x", "y"))...), parent: notes(), accounts: accounts("new", "y"), reencrypt: absent}, want: "DeleteAccounts"},
		"an account is still being deleted":            {o: observed{rotation: rotation("a", append(urgent12, recorded("x", "y"))...), parent: notes(), accounts: deletingAccounts, reencrypt: absent}, want: "Wait", reason: v1alpha1.ReasonRecreatingAccounts},
		"an account is not recreated yet":              {o: observed{rotation: rotation("a", append(urgent12, recorded("x", "y"))...), parent: notes(), accounts: accounts("new", ""), reencrypt: absent}, want: "Wait", reason: v1alpha1.ReasonRecreatingAccounts},
		"an account that was missing may have any UID": {o: observed{rotation: rotation("a", append(urgent12, recorded("x", ""))...), parent: notes(), accounts: accounts("new", "any"), reencrypt: absent}, want: "RecordAccountsRecreated"},
		"both accounts are recreated":                  {o: observed{rotation: rotation("a", append(urgent12, recorded("x", "y"))...), parent: notes(), accounts: accounts("new", "newer"), reencrypt: absent}, want: "RecordAccountsRecreated"},
		"an account of another object is not deleted":  {o: observed{rotation: rotation("a", append(urgent12, recorded("x", "y"))...), parent: notes(), accounts: strangers, reencrypt: absent}, want: "Fail", reason: v1alpha1.ReasonNameConflict},
		"database credentials come after the accounts": {o: observed{rotation: rotation("a", withAccounts...), parent: notes(), reencrypt: absent}, want: "RevokeDatabaseCredentials"},
		"a failed revocation is not retried at once":   {o: observed{rotation: rotation("a", unrevoked...), parent: notes(), reencrypt: absent}, want: "ReplaceSessionKeys"},
		"a failed revocation is retried at the end": {o: observed{rotation: rotation("a", append(unrevoked, with(v1alpha1.ConditionReencrypted), with(v1alpha1.ConditionVerified))...),
			parent: using("session-keys-2"), retirementRecorded: true}, want: "RevokeDatabaseCredentials", reason: ""},
		"the backup key's version is recorded first":     {o: observed{rotation: rotation("a", revoked...), parent: notes(), reencrypt: absent}, want: "RecordBackupKey"},
		"the backup key is replaced":                     {o: observed{rotation: rotation("a", replacing...), parent: notes(), reencrypt: absent}, want: "ReplaceBackupKey"},
		"what cannot be replaced is not tried again":     {o: observed{rotation: rotation("a", unreplaced...), parent: notes(), reencrypt: absent}, want: "ReplaceSessionKeys"},
		"session keys come after the accounts":           {o: observed{rotation: rotation("a", recreated...), parent: notes(), reencrypt: absent}, want: "ReplaceSessionKeys"},
		"session keys of another version are replaced":   {o: observed{rotation: rotation("a", recreated...), parent: using("session-keys-1"), reencrypt: absent}, want: "ReplaceSessionKeys"},
		"the Job does not wait for the pods":             {o: observed{rotation: rotation("a", recreated...), parent: using("session-keys-2"), reencrypt: absent}, want: "CreateReencrypt"},
		"old session keys are deleted after the restart": {o: observed{rotation: rotation("a", recreated...), parent: using("session-keys-2"), restarted: true, reencrypt: trustedjob.Outcome{Phase: trustedjob.Running}}, want: "DeleteOldSessionKeys"},
		"session keys are replaced once":                 {o: observed{rotation: rotation("a", append(recreated, with(v1alpha1.ConditionSessionKeysReplaced))...), parent: using("session-keys-9"), reencrypt: trustedjob.Outcome{Phase: trustedjob.Running}}, want: "Wait", reason: v1alpha1.ReasonReencrypting},
		"the retirement does not wait for the pods":      {o: observed{rotation: rotation("a", verified...), parent: using("session-keys-2")}, want: "RecordRetirement"},
		"the end waits for the pods":                     {o: observed{rotation: rotation("a", verified...), parent: using("session-keys-2"), retirementRecorded: true}, want: "Wait", reason: v1alpha1.ReasonRestartingPods},
		"a Compromise completes":                         {o: observed{rotation: rotation("a", append(verified, with(v1alpha1.ConditionSessionKeysReplaced))...), parent: using("session-keys-2"), retirementRecorded: true}, want: "Complete"},
		"the retirement is recorded after the end":       {o: observed{rotation: rotation("a", ended...), parent: retiredTo(2)}, want: "RecordRetired"},
		"a pending retirement is not recorded as done":   {o: observed{rotation: rotation("a", ended...), parent: retiredTo(1)}, want: "None"},
		"the retirement is recorded once":                {o: observed{rotation: rotation("a", append(ended, with(v1alpha1.ConditionOldVersionRetired))...), parent: retiredTo(2)}, want: "None"},
		"a Routine one does not record it":               {o: observed{rotation: rotation("a", from(1), to(2), with(v1alpha1.ConditionComplete), markEnded), parent: retiredTo(2)}, want: "None"},
		"a deleted one that has started continues":       {o: observed{rotation: rotation("a", append(running12, deleting)...), parent: notes(), reencrypt: trustedjob.Outcome{Phase: trustedjob.Complete}}, want: "RecordReencrypted"},
		"a complete one is released":                     {o: observed{rotation: rotation("a", running, with(v1alpha1.ConditionComplete)), parent: notes()}, want: "Release"},
		"a failed one is released":                       {o: observed{rotation: rotation("a", running, with(v1alpha1.ConditionFailed)), parent: notes()}, want: "Release"},
		"a released failed one stays as it is":           {o: observed{rotation: rotation("a", with(v1alpha1.ConditionFailed), markEnded), parent: notes()}, want: "None"},
		"the end is recorded in the metadata":            {o: observed{rotation: rotation("a", with(v1alpha1.ConditionFailed)), parent: notes()}, want: "RecordEnded"},
		"a failed one is retried": {o: observed{rotation: rotation("a", with(v1alpha1.ConditionFailed), func(kr *v1alpha1.KeyRotation) {
			kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
		}), parent: notes()}, want: "Retry", reason: ""},
		"a retry that was handled is not repeated": {o: observed{rotation: rotation("a", with(v1alpha1.ConditionFailed), func(kr *v1alpha1.KeyRotation) {
			kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
			kr.Status.LastHandledRetryRequest = "now"
		}, markEnded), parent: notes()}, want: "None", reason: ""},
		"a retry whose value is too long is ignored": {o: observed{rotation: rotation("a", with(v1alpha1.ConditionFailed), func(kr *v1alpha1.KeyRotation) {
			kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: strings.Repeat("x", 65)}
		}, markEnded), parent: notes()}, want: "None", reason: ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decide(tc.o); got.action != tc.want || (tc.reason != "" && got.Reason != tc.reason) {
				t.Errorf("next is %s (%s %s), want %s (%s)", got.action, got.Reason, got.Message, tc.want, tc.reason)
			}
		})
	}
}

// TestNeedsKey: where the master key decides the next step, it is read. While a Job runs, and once
// it has succeeded, the rotation continues without it.
func TestNeedsKey(t *testing.T) {
	t.Parallel()
	phases := []trustedjob.Phase{trustedjob.Absent, trustedjob.Running, trustedjob.Complete, trustedjob.Failed, trustedjob.Foreign}
	reencrypted := []func(*v1alpha1.KeyRotation){running, from(1), to(2), with(v1alpha1.ConditionReencrypted)}
	states := map[string]observed{
		"no fromVersion":       {rotation: rotation("a", running)},
		"no toVersion":         {rotation: rotation("a", running, from(1))},
		"a turn to be certain": {rotation: rotation("a", running, from(1), to(2), func(kr *v1alpha1.KeyRotation) { kr.Status.Shards = 0 })},
	}
	for _, phase := range phases {
		states["re-encryption "+string(phase)] = observed{rotation: rotation("a", running, from(1), to(2)), reencrypt: trustedjob.Outcome{Phase: phase}}
		states["verification "+string(phase)] = observed{rotation: rotation("a", reencrypted...), verify: trustedjob.Outcome{Phase: phase}}
	}
	withoutKey := []string{
		"re-encryption Running", "re-encryption Complete", "re-encryption Foreign",
		"verification Absent", "verification Running", "verification Complete", "verification Foreign",
	}
	for name, o := range states {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.parent, o.newest = notes(), 1
			without := decide(o)
			decides := false
			for _, o.key = range []*vaultadmin.KeyState{key(0, 0), key(1, 1), key(2, 1), key(2, 2)} {
				decides = decides || decide(o) != without
			}
			if want := decides && !slices.Contains(withoutKey, name); needsKey(o) != want {
				t.Errorf("needs the key: %t, want %t, because a key changes the step: %t", !want, want, decides)
			}
		})
	}
}

// TestOvertaken: a rotation that is retried after a newer one of the same object fails, whether or
// not it had a toVersion. A version that was added by hand does not count.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	of := func(uid types.UID) func(*v1alpha1.KeyRotation) {
		return func(kr *v1alpha1.KeyRotation) {
			owner := notes()
			owner.UID = uid
			kr.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, v1alpha1.GroupVersion.WithKind("SecureNotes"))}
		}
	}
	pending := notes()
	pending.Status.MasterKey = &v1alpha1.MasterKeyStatus{PendingRetirements: []v1alpha1.PendingRetirement{{ToVersion: 2}}}
	second := rotation("a", running, from(1), to(2))
	for name, tc := range map[string]struct {
		retried *v1alpha1.KeyRotation
		parent  *v1alpha1.SecureNotes
		other   *v1alpha1.KeyRotation
		want    string
	}{
		"a newer version":                                  {retried: second, parent: notes(), other: rotation("b", of("notes-uid"), from(2), to(3)), want: "KeyRotation b has added version 3"},
		"an older version":                                 {retried: second, parent: notes(), other: rotation("b", of("notes-uid"), from(0), to(1)), want: ""},
		"no version yet":                                   {retried: second, parent: notes(), other: rotation("b", of("notes-uid"), running, from(2)), want: ""},
		"another object's rotation":                        {retried: second, parent: notes(), other: rotation("b", of("other"), from(2), to(3)), want: ""},
		"its own retirement":                               {retried: second, parent: pending, want: ""},
		"a newer one that is gone":                         {retried: second, parent: retiredTo(3), want: "a KeyRotation that no longer exists"},
		"it has no toVersion":                              {retried: rotation("a", running, from(1)), parent: notes(), other: rotation("b", of("notes-uid"), from(1), to(2)), want: "KeyRotation b has added version 2"},
		"it has no toVersion, the other is older":          {retried: rotation("a", running, from(1)), parent: notes(), other: rotation("b", of("notes-uid"), from(0), to(1)), want: ""},
		"it has no toVersion, the other is gone":           {retried: rotation("a", running, from(1)), parent: pending, want: "a KeyRotation that no longer exists"},
		"it has no toVersion, a version was added by hand": {retried: rotation("a", running, from(1)), parent: retiredTo(1), want: ""},
		"it has no fromVersion":                            {retried: rotation("a", running), parent: retiredTo(3), other: rotation("b", of("notes-uid"), from(2), to(3)), want: ""},
	} {
		for reason, kr := range map[v1alpha1.RotationReason]*v1alpha1.KeyRotation{
			v1alpha1.RotationRoutine: tc.retried.DeepCopy(), v1alpha1.RotationCompromise: tc.retried.DeepCopy(),
		} {
			t.Run(fmt.Sprintf("%s, %s", name, reason), func(t *testing.T) {
				kr.Spec.Reason = reason
				all := []v1alpha1.KeyRotation{*kr}
				if tc.other != nil {
					all = append(all, *tc.other)
				}
				found := overtaken(kr, tc.parent, all)
				if (found == nil) != (tc.want == "") || found != nil && !strings.Contains(found.Error(), tc.want) {
					t.Errorf("got %v, want %q", found, tc.want)
				}
				// Vault has one more version, added by anybody.
				d := decide(observed{rotation: kr, parent: tc.parent, overtaken: found, key: key(4, 4), accounts: accounts("x", "y")})
				if superseded := d.action == "Fail" && d.Reason == config.ReasonSuperseded; superseded != (tc.want != "") {
					t.Errorf("next is %s (%s)", d.action, d.Reason)
				}
			})
		}
	}
}

// TestRetryIsToldOfWhereItHelps: the message of a failure suggests a retry only where one can
// succeed.
func TestRetryIsToldOfWhereItHelps(t *testing.T) {
	t.Parallel()
	at12 := rotation("a", running, from(1), to(2))
	recreatedParent := notes()
	recreatedParent.UID = "newer-uid"
	for name, tc := range map[string]struct {
		o    observed
		want bool
	}{
		"its SecureNotes is gone":            {o: observed{rotation: at12}, want: false},
		"its SecureNotes was recreated":      {o: observed{rotation: at12, parent: recreatedParent}, want: false},
		"a Compromise supersedes it":         {o: observed{rotation: at12, parent: notes(), supersededBy: rotation("b", running, urgent)}, want: false},
		"another has added a newer version":  {o: observed{rotation: at12, parent: notes(), overtaken: errors.New("KeyRotation b has added version 3 since")}, want: false},
		"its Job was stopped by a newer one": {o: observed{rotation: at12, parent: notes(), reencrypt: trustedjob.Outcome{Phase: trustedjob.Failed, Reason: config.ReasonSuperseded}}, want: false},
		"its Job failed":                     {o: observed{rotation: at12, parent: notes(), reencrypt: trustedjob.Outcome{Phase: trustedjob.Failed}}, want: true},
		"a foreign Job has its name":         {o: observed{rotation: at12, parent: notes(), reencrypt: trustedjob.Outcome{Phase: trustedjob.Foreign}}, want: true},
		"Vault was restored":                 {o: observed{rotation: at12, parent: notes(), key: key(1, 0)}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := decide(tc.o)
			status := v1alpha1.KeyRotationStatus{}
			setFailed(tc.o.rotation, &status, d.decision, time.Unix(5000, 0))
			failed := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionFailed)
			if d.action != "Fail" || strings.Contains(failed.Message, v1alpha1.AnnotationRetryRequestedAt) != tc.want {
				t.Errorf("%s: %s", d.action, failed.Message)
			}
		})
	}
}

func TestAhead(t *testing.T) {
	t.Parallel()
	at := func(seconds int64) func(*v1alpha1.KeyRotation) {
		return func(kr *v1alpha1.KeyRotation) { kr.CreationTimestamp = metav1.NewTime(time.Unix(seconds, 0)) }
	}
	for name, tc := range map[string]struct {
		kr   *v1alpha1.KeyRotation
		all  []*v1alpha1.KeyRotation
		want string
	}{
		"alone":                                        {kr: rotation("a", at(1)), want: ""},
		"an older one is ahead":                        {kr: rotation("a", at(2)), all: []*v1alpha1.KeyRotation{rotation("b", at(1))}, want: "b"},
		"the name decides in the same second":          {kr: rotation("b", at(1)), all: []*v1alpha1.KeyRotation{rotation("a", at(1))}, want: "a"},
		"a younger one is not":                         {kr: rotation("a", at(1)), all: []*v1alpha1.KeyRotation{rotation("b", at(2))}, want: ""},
		"a started one is ahead":                       {kr: rotation("a", at(1)), all: []*v1alpha1.KeyRotation{rotation("b", at(2), running)}, want: "b"},
		"an ended one is not":                          {kr: rotation("a", at(2)), all: []*v1alpha1.KeyRotation{rotation("b", at(1), with(v1alpha1.ConditionFailed))}, want: ""},
		"a deleted queued one is not":                  {kr: rotation("a", at(2)), all: []*v1alpha1.KeyRotation{rotation("b", at(1), deleting)}, want: ""},
		"a Compromise is ahead":                        {kr: rotation("a", at(1)), all: []*v1alpha1.KeyRotation{rotation("b", at(2), urgent)}, want: "b"},
		"a Compromise does not wait for a started one": {kr: rotation("a", at(2), urgent), all: []*v1alpha1.KeyRotation{rotation("b", at(1), running, from(1), to(2))}, want: ""},
		"a Compromise does not wait for an older one":  {kr: rotation("a", at(2), urgent), all: []*v1alpha1.KeyRotation{rotation("b", at(1), running, urgent)}, want: ""},
		"a Compromise waits for a newer one":           {kr: rotation("a", at(1), urgent), all: []*v1alpha1.KeyRotation{rotation("b", at(2), running, urgent)}, want: "b"},
		"a retried Compromise waits for a started one": {kr: rotation("a", at(1), urgent, from(1), to(2)), all: []*v1alpha1.KeyRotation{rotation("b", at(2), running, from(2), to(3))}, want: "b"},
		"a started Compromise is ahead":                {kr: rotation("a", at(1)), all: []*v1alpha1.KeyRotation{rotation("b", at(2), running, urgent, from(1))}, want: "b"},
	} {
		t.Run(name, func(t *testing.T) {
			all := []v1alpha1.KeyRotation{*tc.kr}
			for _, kr := range tc.all {
				all = append(all, *kr)
			}
			got := ""
			if first := ahead(tc.kr, all); first != nil {
				got = first.Name
			}
			if got != tc.want {
				t.Errorf("ahead is %q, want %q", got, tc.want)
			}
		})
	}
}

// TestDue: a retirement covers every older version, so only that of a Compromise comes before one
// that is pending.
func TestDue(t *testing.T) {
	t.Parallel()
	now := time.Unix(5000, 0)
	entry := func(in time.Duration) v1alpha1.PendingRetirement {
		return v1alpha1.PendingRetirement{ToVersion: 2, Due: metav1.NewTime(now.Add(in))}
	}
	for name, tc := range map[string]struct {
		kr   *v1alpha1.KeyRotation
		list []v1alpha1.PendingRetirement
		want time.Duration
	}{
		"the first":                                  {kr: rotation("a"), want: time.Hour},
		"after one that is due sooner":               {kr: rotation("a"), list: []v1alpha1.PendingRetirement{entry(time.Minute)}, want: time.Hour},
		"not before a pending one that is due later": {kr: rotation("a"), list: []v1alpha1.PendingRetirement{entry(720 * time.Hour), entry(time.Minute)}, want: 720 * time.Hour},
		"a Compromise does not wait":                 {kr: rotation("a", urgent), list: []v1alpha1.PendingRetirement{entry(720 * time.Hour)}, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			parent := notes()
			parent.Spec.KeyRotation = &v1alpha1.KeyRotationPolicy{RetainOldVersionFor: "1h"}
			r := &Reconciler{Now: func() time.Time { return now }}
			if got := r.due(tc.kr, parent, tc.list).Sub(now); got != tc.want {
				t.Errorf("due in %s, want %s", got, tc.want)
			}
		})
	}
}
