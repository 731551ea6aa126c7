//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
)

// TestBackup follows docs/backup.md: it makes a backup with escrow and verifies it offline. The
// database is lost, and restored in place, and a drill restores a later backup. Then all is lost
// but the offline files: the objects, the database, the key in Vault. The backup is restored from
// the escrow into another namespace, under another master key. From there, backups go to a bucket,
// and old ones are deleted.
func TestBackup(t *testing.T) {
	t.Parallel()
	c := open(t)
	programs := backupPrograms(t)
	original, other := c.place(t, programs), c.place(t, programs)
	original.create(t)
	other.create(t)
	b := original.backUp(t)
	original.restoreInPlace(t, b)
	original.destroy(t)
	other.restoreFromEscrow(t, b)
	other.backUpToBucket(t)
}

// backup is a backup that was copied to the directory of its place, and a user whose notes it has.
type backup struct {
	id           string
	dir          string
	publicKeys   string
	deploymentID string
	user         user
	factor       secondFactor
	// note is in the backup, and later is not.
	note  *notesclient.Note
	later string
}

// backUp makes a backup, verifies it offline, and makes a copy for a one-time identity.
func (p *place) backUp(t testing.TB) backup {
	t.Helper()
	p.cluster.ready(t, p.sn)
	service, stop := p.cluster.connectTo(t, p.namespace, "service/notes", "443")
	defer stop()
	u := signUp(t, service)
	note := u.note(t, u.write(t, "worth a backup"))
	mustSucceed(t, func(ctx context.Context) (err error) {
		note, err = u.UpdateNote(ctx, note.ID, notesclient.Content{Content: "worth a backup", Title: "a title", Tags: []string{"one", "two"}}, note.ETag)
		return err
	})
	p.factor = u.setUpSecondFactor(t)
	for _, block := range []string{"identities", "public keys", "claim", "backup", "first backup"} {
		p.run(t, block)
	}
	kubectl(t, "-n", p.namespace, "patch", "securenotes", "notes", "--type=merge", "-p", `{"spec":{"backup":{"drill":{"schedule":"* * * * *"}}}}`)
	publicKeys := p.publicKeys(t)
	p.set("PUBLIC_KEYS", publicKeys)
	command(t, "", "docker", "cp", p.volume(t)+"/securenotes-backups/.", filepath.Join(p.dir, "backups"))
	if out, want := p.run(t, "verify"), "archive and escrow file were read completely"; !strings.Contains(out, want) {
		t.Errorf("the verification printed %q, want %q", out, want)
	}
	id := p.copied(t)
	p.awaitBackup(t, "the status to have the backup with one account, one note and an escrow file", func(last *v1alpha1.LastBackup) bool {
		return last.ID == id && last.Accounts == 1 && last.Notes == 1 && last.Escrow && last.Bytes > 0
	})
	p.set("BACKUP", id)
	p.run(t, "rekey")
	p.attack(t, id)
	return backup{id: id, dir: p.dir, publicKeys: publicKeys, deploymentID: p.sn.Status.DeploymentID, user: *u, factor: p.factor, note: note, later: u.write(t, "written after the backup")}
}

// restoreInPlace loses the database, and restores it with the master key that it had.
func (p *place) restoreInPlace(t testing.TB, b backup) {
	t.Helper()
	psql(t, "postgres", fmt.Sprintf("DROP DATABASE %[1]s WITH (FORCE);\nCREATE DATABASE %[1]s OWNER %[1]s;\n", p.database))
	if out := p.run(t, "list"); !strings.Contains(out, b.id) {
		t.Errorf("the list does not contain %s:\n%s", b.id, out)
	}
	p.copyRekeyed(t, b)
	if out := p.run(t, "restore"); !strings.Contains(out, b.id+" is restored") {
		t.Fatalf("the backup is not restored:\n%s", out)
	}
	p.run(t, "after")
	p.mustHaveRestored(t, b)
	p.awaitBackup(t, "the backup after the rotation", func(last *v1alpha1.LastBackup) bool { return last.ID != b.id && last.OldestKeyVersion == 2 })
}

// copyRekeyed copies the files for the one-time identity to the claim, as the pod of the page
// would: the test cluster may have no image with tar for it.
func (p *place) copyRekeyed(t testing.TB, b backup) {
	t.Helper()
	kubectl(t, "-n", p.namespace, "apply", "--dry-run=server", "-f", filepath.Join(p.dir, "config", "samples", "backup-copy.yaml"))
	volume := p.volume(t)
	command(t, "", "docker", "cp", filepath.Join(b.dir, "securenotes-backups"), volume)
	node, path, _ := strings.Cut(volume, ":")
	command(t, "", "docker", "exec", node, "chown", "-R", "65532:65532", path)
}

// restoreFromEscrow restores from the offline files alone, under a new master key.
func (p *place) restoreFromEscrow(t testing.TB, b backup) {
	t.Helper()
	p.cluster.ready(t, p.sn)
	for _, file := range []string{"backup-recipient.txt", "once.txt", b.publicKeys} {
		command(t, "", "cp", filepath.Join(b.dir, file), p.dir)
	}
	p.set("PUBLIC_KEYS", b.publicKeys)
	p.set("BACKUP", b.id)
	p.run(t, "new place")
	p.run(t, "claim")
	p.copyRekeyed(t, b)
	if out := p.run(t, "restore from the escrow"); !strings.Contains(out, b.id+" is restored") {
		t.Fatalf("the backup is not restored:\n%s", out)
	}
	p.run(t, "after")
	p.mustHaveRestored(t, b)
	sn := &v1alpha1.SecureNotes{}
	if err := p.cluster.Get(t.Context(), client.ObjectKeyFromObject(p.sn), sn); err != nil || sn.Status.DeploymentID != b.deploymentID {
		t.Errorf("deployment %s, %v, want %s", sn.Status.DeploymentID, err, b.deploymentID)
	}
	poll.Eventually(t, 2*time.Minute, "the rotation after the restore to complete, and to retire what was before", func(ctx context.Context) error {
		list := &v1alpha1.KeyRotationList{}
		if err := p.cluster.List(ctx, list, client.InNamespace(p.namespace)); err != nil {
			return err
		}
		for _, kr := range list.Items {
			if !meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionComplete) {
				return errors.New(describe(kr.Status.Conditions))
			}
		}
		err := p.cluster.Get(ctx, client.ObjectKeyFromObject(p.sn), sn)
		if err == nil && (len(list.Items) != 1 || sn.Status.MasterKey.MinDecryptionVersion != 2) {
			err = fmt.Errorf("%d rotations, and the oldest version that decrypts is %d", len(list.Items), sn.Status.MasterKey.MinDecryptionVersion)
		}
		return err
	})
	p.mustHaveRestored(t, b)
}

// destroy rotates the master key once more, retires and destroys its earlier versions, and then
// loses everything but the offline files.
func (p *place) destroy(t testing.TB) {
	t.Helper()
	poll.Eventually(t, 4*time.Minute, "a drill that passes", func(context.Context) error {
		if drill := p.backups(t).Drill; drill == nil || drill.Result != v1alpha1.DrillPassed {
			return fmt.Errorf("it is %+v", drill)
		}
		return nil
	})
	kubectl(t, "-n", p.namespace, "patch", "securenotes", "notes", "--type=merge", "-p", `{"spec":{"deletionPolicy":"Delete","keyRotation":{"retainOldVersionFor":"0s","trim":{"after":"0s"}}}}`)
	p.cluster.rotate(t, p.namespace, "notes", v1alpha1.StrategyReencrypt)
	p.awaitKey(t, "the trim to wait for the first backup, which needs version 1", func(key *v1alpha1.MasterKeyStatus) bool {
		return slices.ContainsFunc(key.Retirements, func(r v1alpha1.Retirement) bool {
			return r.ToVersion == 3 && r.Reason == v1alpha1.ReasonHeldByBackup && strings.Contains(r.Message, "versions from 1 on")
		})
	})
	kubectl(t, "-n", p.namespace, "annotate", "securenotes", "notes", v1alpha1.AnnotationTrimDespiteBackups+"=3")
	p.awaitKey(t, "the versions before 3 to be destroyed", func(key *v1alpha1.MasterKeyStatus) bool { return key.MinAvailableVersion == 3 })
	p.cluster.remove(t, p.sn)
	if key, err := p.cluster.vault(t).Logical().Read(p.cluster.transitKey(t, p.namespace, "notes")); err != nil || key != nil {
		t.Fatalf("the master key still exists: %v, %v", key, err)
	}
	psql(t, "postgres", fmt.Sprintf("DROP DATABASE %s WITH (FORCE);\n", p.database))
	kubectl(t, "-n", p.namespace, "delete", "notesbackups,notesrestores,persistentvolumeclaims", "--all")
}

// awaitKey waits until the master key is as wanted.
func (p *place) awaitKey(t testing.TB, what string, wanted func(*v1alpha1.MasterKeyStatus) bool) {
	t.Helper()
	poll.Eventually(t, 2*time.Minute, what, func(ctx context.Context) error {
		sn := &v1alpha1.SecureNotes{}
		if err := p.cluster.Get(ctx, client.ObjectKeyFromObject(p.sn), sn); err != nil {
			return err
		}
		if !wanted(sn.Status.MasterKey) {
			return fmt.Errorf("it is %+v", sn.Status.MasterKey)
		}
		return nil
	})
}

// backUpToBucket makes two backups to a bucket, and keeps one.
func (p *place) backUpToBucket(t testing.TB) {
	t.Helper()
	url := p.objectStore(t)
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"backup": v1alpha1.BackupPolicy{
		Recipients: []v1alpha1.AgeRecipient{v1alpha1.AgeRecipient(p.recipient(t))},
		Destination: v1alpha1.BackupDestination{ObjectStore: &v1alpha1.ObjectStore{
			URL: url + "/backups/notes", CredentialsSecretRef: &v1alpha1.LocalObjectReference{Name: "notes-bucket"},
			CASecretRef: &v1alpha1.SecretKeyReference{Name: "notes-bucket", Key: "ca.crt"},
		}},
		Keep: &v1alpha1.BackupKeep{Count: new(int32(1))},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "-n", p.namespace, "patch", "securenotes", "notes", "--type=merge", "--patch", string(patch))
	p.run(t, "first backup")
	var first string
	p.awaitBackup(t, "the first backup in the status", func(last *v1alpha1.LastBackup) bool { first = last.ID; return true })
	kubectl(t, "-n", p.namespace, "annotate", "securenotes", "notes", v1alpha1.AnnotationBackupRequestedAt+"=now")
	p.awaitBackup(t, "the second backup", func(last *v1alpha1.LastBackup) bool { return last.ID != first })
	if found := p.backups(t).Destination; found == nil || found.Backups != 1 || found.Deleted != 1 || found.Invalid != 0 {
		t.Errorf("the destination is reported as %+v, want one backup and one deleted", found)
	}
}

// backups returns the status of the backups.
func (p *place) backups(t testing.TB) *v1alpha1.BackupStatus {
	t.Helper()
	sn := &v1alpha1.SecureNotes{}
	if err := p.cluster.Get(t.Context(), client.ObjectKeyFromObject(p.sn), sn); err != nil {
		t.Fatal(err)
	}
	if sn.Status.Backup == nil {
		t.Fatal("the status has no backup")
	}
	return sn.Status.Backup
}

// awaitBackup waits for a backup that is as wanted.
func (p *place) awaitBackup(t testing.TB, what string, wanted func(*v1alpha1.LastBackup) bool) {
	t.Helper()
	poll.Eventually(t, 2*time.Minute, what, func(context.Context) error {
		last := p.backups(t).Last
		if last == nil || !wanted(last) {
			return fmt.Errorf("the last backup is %+v", last)
		}
		return nil
	})
}

// recipient returns the recipient of the archives.
func (p *place) recipient(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.dir, "backup-recipient.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// mustHaveRestored checks that the session has ended, that the user logs in with the old password
// and second factor, that the note of the backup is there with title and tags and the later one is
// not, and that an ETag from before the restore no longer matches.
func (p *place) mustHaveRestored(t testing.TB, b backup) {
	t.Helper()
	service, _ := p.cluster.connectTo(t, p.namespace, "service/notes", "443")
	u := b.user
	u.moveTo(service)
	eventuallyRefused(t, http.StatusUnauthorized, u.list)
	if p.factor.secret == "" {
		p.factor = b.factor
	}
	u.logInWith(t, &p.factor)
	if diff := cmp.Diff(b.note.Content, u.note(t, b.note.ID).Content); diff != "" {
		t.Errorf("the restored note differs:\n%s", diff)
	}
	mustBeRefused(t, http.StatusNotFound, func(ctx context.Context) error {
		_, err := u.GetNote(ctx, b.later)
		return err
	})
	mustBeRefused(t, http.StatusPreconditionFailed, func(ctx context.Context) error {
		_, err := u.UpdateNote(ctx, b.note.ID, notesclient.Content{Content: "from an old tab"}, b.note.ETag)
		return err
	})
}

// note returns a note.
func (u *user) note(t testing.TB, id string) (note *notesclient.Note) {
	t.Helper()
	retry(t, func(ctx context.Context) (err error) {
		note, err = u.GetNote(ctx, id)
		return err
	})
	return note
}

// place is a namespace with a SecureNotes and its own PostgreSQL database, and a guide to backups.
type place struct {
	*guide
	cluster             *cluster
	namespace, database string
	sn                  *v1alpha1.SecureNotes
	// factor is the user's, as far as the codes of this place were used.
	factor secondFactor
}

func (c *cluster) place(t testing.TB, programs string) *place {
	t.Helper()
	p := &place{cluster: c, namespace: c.newNamespace(t)}
	p.guide = follow(t, "docs/backup.md", t.TempDir(), p.namespace)
	v := c.vault(t)
	p.set("PATH", programs+":"+os.Getenv("PATH"))
	p.set("VAULT_ADDR", v.address)
	p.set("VAULT_CACERT", c.ca)
	p.set("VAULT_TOKEN", v.token)
	p.database = strings.ReplaceAll(p.namespace, "-", "_")
	c.putSecret(t, p.namespace, "notes-database", "uri", newDatabase(t, p.database, "a-fine-password"))
	ca := &corev1.Secret{}
	if err := c.Get(context.Background(), client.ObjectKey{Namespace: c.namespace, Name: "notes-database-ca"}, ca); err != nil {
		t.Fatal(err)
	}
	c.putSecret(t, p.namespace, "notes-database-ca", "ca.crt", string(ca.Data["ca.crt"]))
	return p
}

// create creates the SecureNotes from the file notes.yaml, which it writes.
func (p *place) create(t testing.TB) {
	t.Helper()
	p.sn = embedded(p.namespace, "notes")
	p.sn.TypeMeta.APIVersion, p.sn.TypeMeta.Kind = v1alpha1.GroupVersion.String(), "SecureNotes"
	p.sn.Spec.DeletionPolicy = v1alpha1.DeletionPolicyRetain
	p.sn.Spec.Replicas = new(int32(1))
	p.sn.Spec.Database = &v1alpha1.Database{Postgres: &v1alpha1.Postgres{
		URISecretRef: v1alpha1.SecretKeyReference{Name: "notes-database", Key: "uri"},
		CASecretRef:  &v1alpha1.SecretKeyReference{Name: "notes-database-ca", Key: "ca.crt"},
	}}
	raw, err := yaml.Marshal(map[string]any{"apiVersion": p.sn.APIVersion, "kind": p.sn.Kind, "metadata": map[string]any{"name": "notes"}, "spec": p.sn.Spec})
	if err == nil {
		err = os.WriteFile(filepath.Join(p.dir, "notes.yaml"), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "-n", p.namespace, "apply", "-f", filepath.Join(p.dir, "notes.yaml"))
	t.Cleanup(func() {
		// newNamespace's cleanup then destroys the keys, unless the test has. The backups in the
		// bucket have no escrow, so that has to be accepted.
		if name := strings.TrimSpace(kubectl(t, "-n", p.namespace, "get", "securenotes", "-o", "name")); name != "" {
			kubectl(t, "-n", p.namespace, "patch", name, "--type=merge", "-p",
				`{"metadata":{"annotations":{"`+v1alpha1.AnnotationDeleteDespiteBackups+`":"true"}},"spec":{"deletionPolicy":"Delete","suspend":false}}`)
		}
	})
}

// volume returns the directory of the claim notes-backups, as docker cp names it. The volumes of
// the test cluster are available on every node.
func (p *place) volume(t testing.TB) string {
	t.Helper()
	var volume corev1.PersistentVolume
	kubectl(t, "-n", p.namespace, "wait", "persistentvolumeclaim/notes-backups", "--for=jsonpath={.status.phase}=Bound", "--timeout=1m")
	name := kubectl(t, "-n", p.namespace, "get", "persistentvolumeclaim", "notes-backups", "-o", "jsonpath={.spec.volumeName}")
	if err := json.Unmarshal([]byte(kubectl(t, "get", "persistentvolume", name, "-o", "json")), &volume); err != nil {
		t.Fatal(err)
	}
	node := kubectl(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	switch source := volume.Spec.PersistentVolumeSource; {
	case source.HostPath != nil:
		return node + ":" + source.HostPath.Path
	case source.Local != nil:
		return node + ":" + source.Local.Path
	default:
		t.Fatalf("PersistentVolume %s is not a directory of a node", name)
		return ""
	}
}

// attack changes a file of the backup that was copied, as somebody with access to the destination
// could, and checks that the page shows it.
func (p *place) attack(t testing.TB, backup string) {
	t.Helper()
	file := filepath.Join(p.dir, "backups", backup+".tar.zst.age")
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(original)
	changed[len(changed)/2] ^= 1
	for content, damaged := range map[string]bool{string(original): false, string(changed): true, string(original[:len(original)-1]): true} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		out := p.run(t, "verify all")
		if got := strings.Contains(out, "do not use backups/"+backup+".manifest.json"); got != damaged {
			t.Errorf("refused %t, want %t:\n%s", got, damaged, out)
		}
		if damaged && !strings.Contains(out, filepath.Base(file)) {
			t.Errorf("the refusal does not name %s:\n%s", filepath.Base(file), out)
		}
	}
}

// publicKeys returns the name of the only file with public keys.
func (p *place) publicKeys(t testing.TB) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "public-keys-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files with public keys %v, %v, want one", files, err)
	}
	return filepath.Base(files[0])
}

// copied returns the id of the only backup that was copied.
func (p *place) copied(t testing.TB) string {
	t.Helper()
	manifests, err := filepath.Glob(filepath.Join(p.dir, "backups", "*.manifest.json"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("manifests %v, %v, want one", manifests, err)
	}
	return strings.TrimSuffix(filepath.Base(manifests[0]), ".manifest.json")
}

// backupPrograms returns a directory with the programs that the page needs: securenotes as in the
// image, vault, and age-keygen.
func backupPrograms(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	vault := os.Getenv("SECURENOTES_TEST_VAULT")
	if vault == "" {
		t.Fatal("SECURENOTES_TEST_VAULT is not set: run this test with `make test-e2e`")
	}
	for name, path := range map[string]string{"securenotes": filepath.Join(root, "bin", "securenotes"), "vault": vault} {
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "age-keygen"), "filippo.io/age/cmd/age-keygen")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}
