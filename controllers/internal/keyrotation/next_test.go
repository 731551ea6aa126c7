package keyrotation

import (
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
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// rotation is a KeyRotation of the SecureNotes notes; changes are made in order.
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

// accounts are the API's and the rotation's, of these UIDs.
func accounts(api, rotation types.UID) []account {
	return []account{
		{name: operand.APIServiceAccount("notes"), uid: api, owned: true}, {name: operand.RotationServiceAccount("notes"), uid: rotation, owned: true},
	}
}

func recorded(api, rotation types.UID) func(*v1alpha1.KeyRotation) {
	return func(kr *v1alpha1.KeyRotation) { recordAccounts(&kr.Status, accounts(api, rotation)) }
}

// using is the SecureNotes with these session keys.
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

func TestNext(t *testing.T) {
	t.Parallel()
	running12 := []func(*v1alpha1.KeyRotation){running, from(1), to(2)}
	suspended := notes()
	suspended.Spec.Suspend = new(true)
	keyless := notes()
	keyless.Status.DeploymentID = ""
	amountless := notes()
	amountless.Spec.Resources = &v1alpha1.Resources{Limits: map[string]v1alpha1.Quantity{"cpu": "1e1.5"}}
	anew := notes()
	anew.UID = "newer-uid"
	anothers := func(kr *v1alpha1.KeyRotation) {
		kr.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "c", UID: "c-uid", Controller: new(true)}}
	}
	goingParent := notes()
	goingParent.DeletionTimestamp = new(metav1.Now())

	urgent12 := slices.Clip(append(running12, urgent))
	withAccounts := slices.Clip(append(urgent12, with(v1alpha1.ConditionServiceAccountsRecreated)))
	unrevoked := slices.Clip(append(withAccounts, func(kr *v1alpha1.KeyRotation) {
		setCondition(kr, &kr.Status, v1alpha1.ConditionDatabaseCredentialsReplaced, metav1.ConditionFalse, "Test", "")
	}))
	recreated := slices.Clip(append(withAccounts, with(v1alpha1.ConditionDatabaseCredentialsReplaced)))
	verified := slices.Clip(append(recreated, with(v1alpha1.ConditionReencrypted), with(v1alpha1.ConditionVerified)))
	ended := slices.Clip([]func(*v1alpha1.KeyRotation){urgent, from(1), to(2), with(v1alpha1.ConditionComplete), setEnded})
	absent := JobOutcome{Phase: JobAbsent}
	goingAccounts, strangers := accounts("x", "new"), accounts("new", "new")
	goingAccounts[0].going, strangers[1].owned = true, false

	for name, tc := range map[string]struct {
		o      observed
		want   action
		reason string
	}{
		"without a SecureNotes it waits":                      {observed{rotation: rotation("a")}, actionWait, v1alpha1.ReasonSecureNotesNotFound},
		"a running one whose SecureNotes is gone fails":       {observed{rotation: rotation("a", running)}, actionFail, v1alpha1.ReasonSecureNotesNotFound},
		"a deleted one whose SecureNotes is gone is let go":   {observed{rotation: rotation("a", running, deleting)}, actionRelease, ""},
		"a SecureNotes that is going lets it go":              {observed{rotation: rotation("a", running), parent: goingParent}, actionRelease, ""},
		"a new one is adopted":                                {observed{rotation: rotation("a"), parent: notes()}, actionAdopt, ""},
		"a suspended SecureNotes holds it":                    {observed{rotation: rotation("a", running), parent: suspended}, actionWait, v1alpha1.ReasonSuspended},
		"without a master key it waits":                       {observed{rotation: rotation("a", owned), parent: keyless}, actionWait, v1alpha1.ReasonSecureNotesNotReady},
		"with resources that cannot be read it waits":         {observed{rotation: rotation("a", running), parent: amountless, key: key(1, 0)}, actionWait, v1alpha1.ReasonInvalidResources},
		"it waits for its turn":                               {observed{rotation: rotation("a", owned), parent: notes(), ahead: rotation("b")}, actionWait, v1alpha1.ReasonQueued},
		"a running one does not give way":                     {observed{rotation: rotation("a", running), parent: notes(), ahead: rotation("b"), key: key(1, 0)}, actionRecordFrom, ""},
		"a running one gives way to a compromise":             {observed{rotation: rotation("a", running12...), parent: notes(), supersededBy: rotation("b", running, urgent)}, actionFail, config.ReasonSuperseded},
		"a deleted one that runs gives way too":               {observed{rotation: rotation("a", append(running12, deleting)...), parent: notes(), supersededBy: rotation("b", running, urgent)}, actionFail, config.ReasonSuperseded},
		"a compromise takes no version before that":           {observed{rotation: rotation("a", running, urgent), parent: notes(), inTheWay: rotation("b", running), key: key(1, 0)}, actionWait, v1alpha1.ReasonRotatingKey},
		"another object's can never be adopted":               {observed{rotation: rotation("a", anothers), parent: notes()}, actionFail, v1alpha1.ReasonNameConflict},
		"one whose SecureNotes was made anew neither":         {observed{rotation: rotation("a", owned), parent: anew}, actionFail, v1alpha1.ReasonNameConflict},
		"the finalizer comes before the start":                {observed{rotation: rotation("a", owned), parent: notes()}, actionGuard, ""},
		"the start is recorded":                               {observed{rotation: rotation("a", owned, guarded), parent: notes()}, actionStart, ""},
		"a queued one that is deleted is let go":              {observed{rotation: rotation("a", owned, guarded, deleting), parent: notes()}, actionRelease, ""},
		"fromVersion comes before the rotation":               {observed{rotation: rotation("a", running), parent: notes(), key: key(1, 0)}, actionRecordFrom, ""},
		"a retry makes certain of its turn before anything":   {observed{rotation: rotation("a", append(running12, func(kr *v1alpha1.KeyRotation) { kr.Status.Shards = 0 })...), parent: notes()}, actionRecordTurn, ""},
		"the key is rotated while it is still the old one":    {observed{rotation: rotation("a", running, from(1)), parent: notes(), key: key(1, 0)}, actionRotateKey, ""},
		"a rotation that went through is not repeated":        {observed{rotation: rotation("a", running, from(1)), parent: notes(), key: key(2, 0)}, actionRecordTo, ""},
		"an extra version by hand is taken":                   {observed{rotation: rotation("a", running, from(1)), parent: notes(), key: key(5, 0)}, actionRecordTo, ""},
		"a Vault restored from before it began is noticed":    {observed{rotation: rotation("a", running, from(3)), parent: notes(), key: key(2, 0)}, actionFail, v1alpha1.ReasonKeyRestored},
		"a Vault restored from before its version is noticed": {observed{rotation: rotation("a", running, from(1), to(3)), parent: notes(), key: key(2, 0)}, actionFail, v1alpha1.ReasonKeyRestored},
		"no version is made in the place of a lost one":       {observed{rotation: rotation("a", running), parent: notes(), key: key(2, 0), newest: 3}, actionFail, v1alpha1.ReasonKeyRestored},
		"a Job that failed because Vault was restored":        {observed{rotation: rotation("a", running12...), parent: notes(), key: key(1, 0), newest: 2, reencrypt: JobOutcome{Phase: JobFailed, Reason: "KeyMismatch"}}, actionFail, v1alpha1.ReasonKeyRestored},
		"the floor of encryption comes before the Job":        {observed{rotation: rotation("a", running12...), parent: notes(), key: key(2, 0), reencrypt: JobOutcome{Phase: JobAbsent}}, actionRaiseMinEncryption, ""},
		"a higher floor is left":                              {observed{rotation: rotation("a", running12...), parent: notes(), key: key(3, 3), reencrypt: JobOutcome{Phase: JobAbsent}}, actionCreateReencrypt, ""},
		"the Job runs":                                        {observed{rotation: rotation("a", running12...), parent: notes(), reencrypt: JobOutcome{Phase: JobRunning}}, actionWait, v1alpha1.ReasonReencrypting},
		"a Job that failed says why":                          {observed{rotation: rotation("a", running12...), parent: notes(), reencrypt: JobOutcome{Phase: JobFailed, Reason: "Superseded"}}, actionFail, "Superseded"},
		"a Job that failed without a word":                    {observed{rotation: rotation("a", running12...), parent: notes(), reencrypt: JobOutcome{Phase: JobFailed}}, actionFail, v1alpha1.ReasonJobFailed},
		"a stranger's Job is not believed":                    {observed{rotation: rotation("a", running12...), parent: notes(), reencrypt: JobOutcome{Phase: JobForeign}}, actionFail, v1alpha1.ReasonNameConflict},
		"the Job's end is recorded":                           {observed{rotation: rotation("a", running12...), parent: notes(), reencrypt: JobOutcome{Phase: JobComplete}}, actionRecordReencrypted, ""},
		"a Job that was deleted after its end does not run again": {observed{rotation: rotation("a", append(running12, with(v1alpha1.ConditionReencrypted))...), parent: notes(),
			reencrypt: JobOutcome{Phase: JobAbsent}, verify: JobOutcome{Phase: JobAbsent}}, actionCreateVerify, ""},
		"a Job that was deleted before its end is forgotten": {observed{rotation: rotation("a", append(running12, func(kr *v1alpha1.KeyRotation) { kr.Status.ReencryptJobUID = "x" })...),
			parent: notes(), key: key(2, 2), reencrypt: JobOutcome{Phase: JobAbsent}}, actionForgetReencryptJob, ""},
		"so is a verification": {observed{rotation: rotation("a", append(running12, with(v1alpha1.ConditionReencrypted), func(kr *v1alpha1.KeyRotation) { kr.Status.VerifyJobUID = "x" })...),
			parent: notes(), verify: JobOutcome{Phase: JobAbsent}}, actionForgetVerifyJob, ""},
		"the verification is recorded": {observed{rotation: rotation("a", append(running12, with(v1alpha1.ConditionReencrypted))...), parent: notes(),
			verify: JobOutcome{Phase: JobComplete}}, actionRecordVerified, ""},
		"the retirement comes before the end": {observed{rotation: rotation("a", append(running12, with(v1alpha1.ConditionReencrypted), with(v1alpha1.ConditionVerified))...), parent: notes()},
			actionRecordRetirement, ""},
		"the end": {observed{rotation: rotation("a", append(running12, with(v1alpha1.ConditionReencrypted), with(v1alpha1.ConditionVerified))...), parent: notes(), retirementRecorded: true},
			actionComplete, ""},
		"a compromise records the accounts before all else": {observed{rotation: rotation("a", urgent12...), parent: notes(), accounts: accounts("x", "y"), reencrypt: absent}, actionRecordAccounts, ""},
		"a compromise deletes those of a recorded UID":      {observed{rotation: rotation("a", append(urgent12, recorded("x", "y"))...), parent: notes(), accounts: accounts("new", "y"), reencrypt: absent}, actionDeleteAccounts, ""},
		"a compromise waits for an account to go":           {observed{rotation: rotation("a", append(urgent12, recorded("x", "y"))...), parent: notes(), accounts: goingAccounts, reencrypt: absent}, actionWait, v1alpha1.ReasonRecreatingAccounts},
		"a compromise waits for an account to be made anew": {observed{rotation: rotation("a", append(urgent12, recorded("x", "y"))...), parent: notes(), accounts: accounts("new", ""), reencrypt: absent}, actionWait, v1alpha1.ReasonRecreatingAccounts},
		"an account that was missing is only waited for":    {observed{rotation: rotation("a", append(urgent12, recorded("x", ""))...), parent: notes(), accounts: accounts("new", "any"), reencrypt: absent}, actionRecordAccountsRecreated, ""},
		"both accounts are new":                             {observed{rotation: rotation("a", append(urgent12, recorded("x", "y"))...), parent: notes(), accounts: accounts("new", "newer"), reencrypt: absent}, actionRecordAccountsRecreated, ""},
		"another object's account is not deleted":           {observed{rotation: rotation("a", append(urgent12, recorded("x", "y"))...), parent: notes(), accounts: strangers, reencrypt: absent}, actionFail, v1alpha1.ReasonNameConflict},
		"database credentials come after the accounts":      {observed{rotation: rotation("a", withAccounts...), parent: notes(), reencrypt: absent}, actionRevokeCredentials, ""},
		"those that could not be revoked are left at first": {observed{rotation: rotation("a", unrevoked...), parent: notes(), reencrypt: absent}, actionReplaceSessionKeys, ""},
		"they are revoked at the end": {observed{rotation: rotation("a", append(unrevoked, with(v1alpha1.ConditionReencrypted), with(v1alpha1.ConditionVerified))...),
			parent: using("session-keys-2"), retirementRecorded: true}, actionRevokeCredentials, ""},
		"session keys come after the accounts":         {observed{rotation: rotation("a", recreated...), parent: notes(), reencrypt: absent}, actionReplaceSessionKeys, ""},
		"session keys of another version are replaced": {observed{rotation: rotation("a", recreated...), parent: using("session-keys-1"), reencrypt: absent}, actionReplaceSessionKeys, ""},
		"the Job does not wait for the pods":           {observed{rotation: rotation("a", recreated...), parent: using("session-keys-2"), reencrypt: absent}, actionCreateReencrypt, ""},
		"once they have restarted the old keys go":     {observed{rotation: rotation("a", recreated...), parent: using("session-keys-2"), restarted: true, reencrypt: JobOutcome{Phase: JobRunning}}, actionDeleteOldSessionKeys, ""},
		"session keys are replaced once":               {observed{rotation: rotation("a", append(recreated, with(v1alpha1.ConditionSessionKeysReplaced))...), parent: using("session-keys-9"), reencrypt: JobOutcome{Phase: JobRunning}}, actionWait, v1alpha1.ReasonReencrypting},
		"the retirement does not wait for the pods":    {observed{rotation: rotation("a", verified...), parent: using("session-keys-2")}, actionRecordRetirement, ""},
		"the end waits for the pods":                   {observed{rotation: rotation("a", verified...), parent: using("session-keys-2"), retirementRecorded: true}, actionWait, v1alpha1.ReasonRestartingPods},
		"the end of a compromise":                      {observed{rotation: rotation("a", append(verified, with(v1alpha1.ConditionSessionKeysReplaced))...), parent: using("session-keys-2"), retirementRecorded: true}, actionComplete, ""},
		"the retirement is told after the end":         {observed{rotation: rotation("a", ended...), parent: retiredTo(2)}, actionRecordRetired, ""},
		"a retirement to come is not told":             {observed{rotation: rotation("a", ended...), parent: retiredTo(1)}, actionNone, ""},
		"it is told once":                              {observed{rotation: rotation("a", append(ended, with(v1alpha1.ConditionOldVersionRetired))...), parent: retiredTo(2)}, actionNone, ""},
		"a routine one does not tell":                  {observed{rotation: rotation("a", from(1), to(2), with(v1alpha1.ConditionComplete), setEnded), parent: retiredTo(2)}, actionNone, ""},
		"a deleted one that runs goes on to its end":   {observed{rotation: rotation("a", append(running12, deleting)...), parent: notes(), reencrypt: JobOutcome{Phase: JobComplete}}, actionRecordReencrypted, ""},
		"a complete one is let go":                     {observed{rotation: rotation("a", running, with(v1alpha1.ConditionComplete)), parent: notes()}, actionRelease, ""},
		"a failed one is let go":                       {observed{rotation: rotation("a", running, with(v1alpha1.ConditionFailed)), parent: notes()}, actionRelease, ""},
		"a failed one rests":                           {observed{rotation: rotation("a", with(v1alpha1.ConditionFailed), setEnded), parent: notes()}, actionNone, ""},
		"an end is recorded in the metadata":           {observed{rotation: rotation("a", with(v1alpha1.ConditionFailed)), parent: notes()}, actionRecordEnded, ""},
		"a failed one is retried": {observed{rotation: rotation("a", with(v1alpha1.ConditionFailed), func(kr *v1alpha1.KeyRotation) {
			kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
		}), parent: notes()}, actionRetry, ""},
		"a retry that was handled is not repeated": {observed{rotation: rotation("a", with(v1alpha1.ConditionFailed), func(kr *v1alpha1.KeyRotation) {
			kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
			kr.Status.LastHandledRetryRequest = "now"
		}, setEnded), parent: notes()}, actionNone, ""},
		"a request of any length is none": {observed{rotation: rotation("a", with(v1alpha1.ConditionFailed), func(kr *v1alpha1.KeyRotation) {
			kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: strings.Repeat("x", 65)}
		}, setEnded), parent: notes()}, actionNone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := next(tc.o); got.action != tc.want || (tc.reason != "" && got.reason != tc.reason) {
				t.Errorf("next is %s (%s %s), want %s (%s)", got.action, got.reason, got.message, tc.want, tc.reason)
			}
		})
	}
}

// TestOvertaken: a rotation that is tried again after a newer one of the same object has nothing left to do, whether or
// not it had come to a version of its own. A version that was made by hand is nobody's.
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
		"a newer version":              {second, notes(), rotation("b", of("notes-uid"), from(2), to(3)), "KeyRotation b has made version 3"},
		"an older version":             {second, notes(), rotation("b", of("notes-uid"), from(0), to(1)), ""},
		"no version yet":               {second, notes(), rotation("b", of("notes-uid"), running, from(2)), ""},
		"another object's rotation":    {second, notes(), rotation("b", of("other"), from(2), to(3)), ""},
		"its own retirement":           {second, pending, nil, ""},
		"a newer one that is gone":     {second, retiredTo(3), nil, "a KeyRotation that is gone"},
		"it came to no version":        {rotation("a", running, from(1)), notes(), rotation("b", of("notes-uid"), from(1), to(2)), "KeyRotation b has made version 2"},
		"none either, the other older": {rotation("a", running, from(1)), notes(), rotation("b", of("notes-uid"), from(0), to(1)), ""},
		"none, the other is gone":      {rotation("a", running, from(1)), pending, nil, "a KeyRotation that is gone"},
		"none, and a version by hand":  {rotation("a", running, from(1)), retiredTo(1), nil, ""},
		"it has begun with none":       {rotation("a", running), retiredTo(3), rotation("b", of("notes-uid"), from(2), to(3)), ""},
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
				if (found == "") != (tc.want == "") || !strings.Contains(found, tc.want) {
					t.Errorf("%q, want %q", found, tc.want)
				}
				// Vault has a version more, whoever made it.
				d := next(observed{rotation: kr, parent: tc.parent, overtaken: found, key: key(4, 4), accounts: accounts("x", "y")})
				if superseded := d.action == actionFail && d.reason == config.ReasonSuperseded; superseded != (tc.want != "") {
					t.Errorf("next is %s (%s)", d.action, d.reason)
				}
			})
		}
	}
}

// TestRetryIsToldOfWhereItHelps: nobody is sent to try again what cannot come to anything.
func TestRetryIsToldOfWhereItHelps(t *testing.T) {
	t.Parallel()
	at12 := rotation("a", running, from(1), to(2))
	anew := notes()
	anew.UID = "newer-uid"
	for name, tc := range map[string]struct {
		o    observed
		want bool
	}{
		"its SecureNotes is gone":            {observed{rotation: at12}, false},
		"its SecureNotes was made anew":      {observed{rotation: at12, parent: anew}, false},
		"a Compromise has taken over":        {observed{rotation: at12, parent: notes(), supersededBy: rotation("b", running, urgent)}, false},
		"another has made a newer version":   {observed{rotation: at12, parent: notes(), overtaken: "KeyRotation b"}, false},
		"its Job was stopped by a newer one": {observed{rotation: at12, parent: notes(), reencrypt: JobOutcome{Phase: JobFailed, Reason: config.ReasonSuperseded}}, false},
		"its Job failed":                     {observed{rotation: at12, parent: notes(), reencrypt: JobOutcome{Phase: JobFailed}}, true},
		"a Job of its name is in the way":    {observed{rotation: at12, parent: notes(), reencrypt: JobOutcome{Phase: JobForeign}}, true},
		"Vault was restored":                 {observed{rotation: at12, parent: notes(), key: key(1, 0)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := next(tc.o)
			status := v1alpha1.KeyRotationStatus{}
			setFailed(tc.o.rotation, &status, d, time.Unix(5000, 0))
			failed := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionFailed)
			if d.action != actionFail || strings.Contains(failed.Message, v1alpha1.AnnotationRetryRequestedAt) != tc.want {
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
		"alone":                                            {rotation("a", at(1)), nil, ""},
		"the older first":                                  {rotation("a", at(2)), []*v1alpha1.KeyRotation{rotation("b", at(1))}, "b"},
		"the name decides":                                 {rotation("b", at(1)), []*v1alpha1.KeyRotation{rotation("a", at(1))}, "a"},
		"a younger one waits":                              {rotation("a", at(1)), []*v1alpha1.KeyRotation{rotation("b", at(2))}, ""},
		"a running one is ahead":                           {rotation("a", at(1)), []*v1alpha1.KeyRotation{rotation("b", at(2), running)}, "b"},
		"an ended one is not":                              {rotation("a", at(2)), []*v1alpha1.KeyRotation{rotation("b", at(1), with(v1alpha1.ConditionFailed))}, ""},
		"a deleted queued one is not":                      {rotation("a", at(2)), []*v1alpha1.KeyRotation{rotation("b", at(1), deleting)}, ""},
		"a compromise goes first":                          {rotation("a", at(1)), []*v1alpha1.KeyRotation{rotation("b", at(2), urgent)}, "b"},
		"a compromise does not wait for a running one":     {rotation("a", at(2), urgent), []*v1alpha1.KeyRotation{rotation("b", at(1), running, from(1), to(2))}, ""},
		"a compromise does not wait for an older one":      {rotation("a", at(2), urgent), []*v1alpha1.KeyRotation{rotation("b", at(1), running, urgent)}, ""},
		"a compromise waits for a newer one":               {rotation("a", at(1), urgent), []*v1alpha1.KeyRotation{rotation("b", at(2), running, urgent)}, "b"},
		"a compromise tried again waits for a running one": {rotation("a", at(1), urgent, from(1), to(2)), []*v1alpha1.KeyRotation{rotation("b", at(2), running, from(2), to(3))}, "b"},
		"a running compromise is ahead":                    {rotation("a", at(1)), []*v1alpha1.KeyRotation{rotation("b", at(2), running, urgent, from(1))}, "b"},
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

// TestDue: a retirement covers every older version, so none but a Compromise's comes before one that
// was promised.
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
		"the first":                      {rotation("a"), nil, time.Hour},
		"after one that is due sooner":   {rotation("a"), []v1alpha1.PendingRetirement{entry(time.Minute)}, time.Hour},
		"not before one promised longer": {rotation("a"), []v1alpha1.PendingRetirement{entry(720 * time.Hour), entry(time.Minute)}, 720 * time.Hour},
		"a compromise at once":           {rotation("a", urgent), []v1alpha1.PendingRetirement{entry(720 * time.Hour)}, 0},
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

// TestFullRetirements: the entry that gives way is covered by the one that takes its place.
func TestFullRetirements(t *testing.T) {
	t.Parallel()
	var list []v1alpha1.PendingRetirement
	for version := range int64(maxRetirements + 3) {
		list = withRetirement(list, v1alpha1.PendingRetirement{ToVersion: version + 2, Due: metav1.Unix(version, 0)})
	}
	last := list[len(list)-1]
	if len(list) != maxRetirements || last.ToVersion != maxRetirements+4 || last.Due.Unix() != maxRetirements+2 {
		t.Errorf("%d entries, the last %+v", len(list), last)
	}
}
