# packages: git,dash,coreutils,sed
# expect: 4
# expect: 69e96c523e57f7d6288c0ce882dcc202c7d6fa99
# expect: 1 file changed, 1 insertion(+), 1 deletion(-)
# expect: sound
set -e
export HOME=/tmp/home GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_AUTHOR_DATE=2020-01-01T00:00:00Z GIT_COMMITTER_DATE=2020-01-01T00:00:00Z
mkdir -p /tmp/home /tmp/repository
cd /tmp/repository
git init -q -b main .
seq 1 1000 > file
git add file
git commit -q -m one
git checkout -q -b side
sed -i 's/^500$/five/' file
git commit -q -am two
git checkout -q main
sed -i 's/^2$/zwei/' file
git commit -q -am three
git merge -q -m merged side
git log --oneline | wc -l
git rev-parse HEAD
git gc -q
git clone -q . ../copy
git -C ../copy diff --stat HEAD~1 | tail -1
git -C ../copy fsck --full && echo sound
