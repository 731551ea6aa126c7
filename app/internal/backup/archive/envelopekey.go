package archive

// Key returns the name of the key that the file says has signed it. Nothing has proved it yet.
func (e *Envelope) Key() string {
	if len(e.dsse.Signatures) != 1 {
		return ""
	}
	key, _, _ := splitKeyID(e.dsse.Signatures[0].KeyID)
	return key
}
