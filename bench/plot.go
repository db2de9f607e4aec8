package main

import (
	"image/color"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// palette tells series apart also in print and for the colour-blind (Okabe and Ito, and brown).
var palette = []color.Color{
	color.RGBA{R: 0xd5, G: 0x5e, A: 0xff},
	color.RGBA{R: 0xe6, G: 0x9f, A: 0xff},
	color.RGBA{G: 0x72, B: 0xb2, A: 0xff},
	color.RGBA{G: 0x9e, B: 0x73, A: 0xff},
	color.RGBA{R: 0xcc, G: 0x79, B: 0xa7, A: 0xff},
	color.RGBA{R: 0x56, G: 0xb4, B: 0xe9, A: 0xff},
	color.RGBA{R: 0x99, G: 0x99, B: 0x99, A: 0xff},
	color.RGBA{R: 0xf0, G: 0xe4, B: 0x42, A: 0xff},
	color.RGBA{A: 0xff},
	color.RGBA{R: 0x66, G: 0x33, A: 0xff},
}

// series is one line of a plot.
type series struct {
	name   string
	points plotter.XYs
}

// addLines adds lines with points.
func addLines(p *plot.Plot, all []series) error {
	for i, s := range all {
		line, points, err := plotter.NewLinePoints(s.points)
		if err != nil {
			return err
		}
		line.Color, line.Width = palette[i%len(palette)], vg.Points(1.5)
		points.Color, points.Shape = line.Color, plotutil.Shape(i)
		p.Add(line, points)
		p.Legend.Add(s.name, line, points)
	}
	return nil
}

// addStacks adds a bar for each name, made of one piece for each part; of[part][bar] is its height.
func addStacks(p *plot.Plot, names, parts []string, of []plotter.Values) error {
	var below *plotter.BarChart
	for i, values := range of {
		bars, err := plotter.NewBarChart(values, vg.Points(40))
		if err != nil {
			return err
		}
		bars.Color, bars.LineStyle = palette[i%len(palette)], draw.LineStyle{}
		if below != nil {
			bars.StackOn(below)
		}
		below = bars
		p.Add(bars)
		p.Legend.Add(parts[i], bars)
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	return nil
}

// save writes a plot as SVG and PNG.
func save(p *plot.Plot, out, name string) error {
	p.Title.Padding = vg.Points(8)
	for _, kind := range []string{"svg", "png"} {
		if err := p.Save(20*vg.Centimeter, 11*vg.Centimeter, filepath.Join(out, name+"."+kind)); err != nil {
			return err
		}
	}
	return nil
}
