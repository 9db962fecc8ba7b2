#!/bin/sh
# Asks the tiny model about some of its example pictures. usage: demo.sh PATH_OF_QVL
set -eu
qvl=$1
model=models/tiny
ask() { # QUESTION PICTURE...
    question=$1
    shift
    pictures=
    for p in "$@"; do pictures="$pictures --image $model/examples/$p"; done
    printf '\n$ qvl run %s%s -p "%s"\n' "$model" "$pictures" "$question"
    "$qvl" run "$model" --greedy $pictures -p "$question"
}
ask "Describe this image." three-shapes.png
ask "Is the green cross below the orange triangle?" rotated.jpg
ask "What changed between the two images?" before.png after.png
printf '\nThe same in a chat:  %s run %s\n' "$qvl" "$model"
