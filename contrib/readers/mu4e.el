;;; mu4e on a Maildir that mailkeep keeps -*- lexical-binding: t -*-

;; Once:  mu init --maildir=~/Mail/work --my-address=me@example.org && mu index
;;
;; In mailkeep's configuration, so that new mail is indexed where mu4e does not run:
;;
;;     [hooks]
;;     new_mail = "mu index --quiet"
;;
;; While mu4e runs, it alone can write to its database: it is then told by a timer, below.

(require 'mu4e)

(setq mu4e-maildir (expand-file-name "~/Mail/work")
      mu4e-sent-folder "/Sent"
      mu4e-drafts-folder "/Drafts"
      mu4e-trash-folder "/Trash"
      mu4e-refile-folder "/Archive")

;; The daemon fetches: mu4e has only to look. Without the daemon: "mailkeep sync".
(setq mu4e-get-mail-command "true"
      mu4e-update-interval 60
      mu4e-index-cleanup t
      mu4e-index-lazy-check nil)

;; mailkeep knows a moved message by its content. Its name may stay, and should: a new one makes
;; the other readers forget it.
(setq mu4e-change-filenames-when-moving nil)

;; "d" moves to the trash and sets the flag T as well. Under local_delete = "trash" or "keep" the
;; flag does nothing on the server; under "mirror" it becomes \Deleted, and some other program may
;; expunge the message from the trash. So move without it.
(setf (alist-get 'trash mu4e-marks)
      '(:char ("d" . "▼")
        :prompt "dtrash"
        :dyn-target (lambda (_target msg) (mu4e-get-trash-folder msg))
        :action (lambda (docid _msg target)
                  (mu4e--server-move docid (mu4e--mark-check-target target) "-N"))))
