#!/bin/sh
# Asks the tiny model about three of its example pictures. usage: demo.sh PATH_OF_QVL
set -eu
qvl=$1
model=models/tiny
ask() { # PICTURE QUESTION
    printf '\n$ qvl run %s --image %s -p "%s"\n' "$model" "$1" "$2"
    "$qvl" run "$model" --greedy --image "$1" -p "$2"
}
ask $model/examples/three-shapes.png "Describe this image."
ask $model/examples/rotated.jpg "How many shapes are there?"
ask $model/examples/sign.png "What does the sign say?"
printf '\nThe same in a chat:  %s run %s\n' "$qvl" "$model"
